"""Which yard runs in a data folder: the supervisor's lock, and what it publishes for ``codeyard status``.

The lock is the truth: the kernel lets go of it however the supervisor ends. The state file counts only meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from codeyard_server.settings import VERSION
from codeyard_server.supervisor import errors
from codeyard_server.supervisor.layout import Layout, usable

YardState = Literal["starting", "ready", "stopping", "stopped"]
ProcessState = Literal["starting", "running", "restarting", "stopping", "stopped"]

# A `status` at the same moment holds the lock for microseconds: a start tries again before it believes in a rival.
_LOCK_ATTEMPTS = 10
_LOCK_PAUSE_SECONDS = 0.03


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of a yard. ``pid`` is None while there is none."""

    name: str
    pid: int | None
    state: ProcessState
    restarts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class YardStatus:
    """A yard as ``codeyard status`` shows it. ``url`` and ``token`` are None where none runs or none is needed."""

    data: str
    state: YardState = "stopped"
    url: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    version: str = VERSION
    supervisor: int | None = None
    """Process id of the supervisor, which a signal to stop goes to."""
    processes: Sequence[ProcessStatus] = ()

    @property
    def is_running(self) -> bool:
        """Whether a supervisor holds the data folder."""
        return self.state != "stopped"

    def to_json(self) -> dict[str, Any]:
        """Return the members in the documented order."""
        names = ("url", "token", "data", "version", "state", "supervisor")
        processes = [dataclasses.asdict(process) for process in self.processes]
        return {**{name: getattr(self, name) for name in names}, "processes": processes}


@contextlib.contextmanager
def hold(layout: Layout) -> Iterator[None]:
    """Hold the data folder for this process.

    Raises:
        YardRunning: another process holds it; the message has its id.
        BadDataFolder: the lock file cannot be written.
    """
    with usable(layout.data):
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "r+", encoding="ascii") as file:
        if not _lock_soon(descriptor):
            raise errors.YardRunning(f"a yard already runs in {layout.data} (process {file.read().strip()})")
        with usable(layout.data):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
        # The lock ends with the descriptor. The file stays: another process may already have opened it.


def publish(layout: Layout, status: YardStatus) -> None:
    """Write the state file in one step. A disk that is full costs the news, not the yard."""
    draft = layout.state.with_suffix(".new")
    with contextlib.suppress(OSError):
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(status.to_json(), file)
        draft.rename(layout.state)


def read_status(layout: Layout) -> YardStatus:
    """Return what runs in this data folder.

    Raises:
        BadDataFolder: the folder belongs to another user, who alone may look.
    """
    stopped = YardStatus(data=str(layout.data))
    try:
        if _owner(layout) is None:
            return stopped
        text = layout.state.read_text(encoding="utf-8")
    except FileNotFoundError:
        # It is starting and has said nothing yet, or has just said its last.
        return dataclasses.replace(stopped, state="starting") if layout.lock.exists() else stopped
    except PermissionError:
        raise errors.BadDataFolder(f"{layout.data} belongs to another user") from None
    members = json.loads(text)
    processes = tuple(ProcessStatus(**process) for process in members.pop("processes"))
    return YardStatus(**members, processes=processes)


def stop(layout: Layout, timeout_seconds: float = 60.0) -> bool:
    """Tell the supervisor of this data folder to stop, wait until it is gone, and return whether there was one.

    Raises:
        YardError: it is still there after the timeout.
        BadDataFolder: the folder belongs to another user.
    """
    try:
        owner = _owner(layout)
        if owner is None:
            return False
        # Between reading the id and the signal the process could end and its id be given away; a pidfd cannot be.
        descriptor = os.pidfd_open(owner)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        raise errors.BadDataFolder(f"{layout.data} belongs to another user") from None
    try:
        if _owner(layout) == owner:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        # Readable once the process has ended, which is a moment after it let go of the folder.
        ended, _, _ = select.select([descriptor], [], [], timeout_seconds)
    finally:
        os.close(descriptor)
    if not ended:
        raise errors.YardError(f"the yard in {layout.data} (process {owner}) did not stop")
    return True


def _owner(layout: Layout) -> int | None:
    """Return the process that holds the lock, or None. Raises FileNotFoundError where there was never a yard."""
    with open(layout.lock, encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text else None
    return None


def _lock_soon(descriptor: int) -> bool:
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False
