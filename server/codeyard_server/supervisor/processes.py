"""One program of a yard: start it, wait until it is ready, start it again when it dies, stop it with all it left."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import pwd
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from codeyard_server.supervisor import errors, logs
from codeyard_server.supervisor.state import ProcessState, ProcessStatus

Say = Callable[[str], None]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
HEALTHY_SECONDS = 10.0
"""A program that ran this long starts its next pauses at the shortest again."""

_START_SECONDS = 60.0
_POLL_SECONDS = 0.03
_SPAWN = pathlib.Path(__file__).with_name("spawn.py")


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to tell that it is ready."""

    name: str
    command: Sequence[str | pathlib.Path]
    environment: Mapping[str, str]
    is_ready: Callable[[], Awaitable[bool]]
    """Asks once; it may raise OSError, and is given a second."""
    user: pwd.struct_passwd | None = None
    """Whom it runs as; None keeps the supervisor's user."""
    folder: pathlib.Path | None = None
    """Its working directory; None keeps the supervisor's."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the supervisor dies."""
    grace_seconds: float = 5.0
    """After the stop signal; then it is killed."""


class Child:
    """A program that is kept running between :meth:`start` and :meth:`stop`.

    Args:
        program: what to run.
        log: the file that takes its output.
        say: tells the administrator a line.
        changed: called when pid or state have changed.
    """

    def __init__(self, program: Program, log: pathlib.Path, say: Say, changed: Callable[[], None]) -> None:
        self.program = program
        self._log = log
        self._say = say
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._state: ProcessState = "stopped"
        self._restarts = 0
        self._stopping = asyncio.Event()

    @property
    def status(self) -> ProcessStatus:
        """What the program does now."""
        process = self._process
        pid = process.pid if process is not None and process.returncode is None else None
        return ProcessStatus(self.program.name, pid, self._state, self._restarts)

    async def start(self) -> None:
        """Start the program for the first time and wait until it is ready.

        Raises:
            YardError: it ended before, or was not ready in a minute; the message quotes its log.
        """
        since, started = logs.size(self._log), time.monotonic()
        self._set("starting")
        await self._spawn()
        if not await self._becomes_ready():
            text = logs.tail(self._log, since)
            problem = "was not ready in time" if self.status.pid else f"ended with {describe_exit(self._exit_status())}"
            raise errors.YardError(f"{self.program.name} {problem}; the end of {self._log}:\n{text}".rstrip(":\n"))
        self._set("running")
        self._say(f"{self.program.name:<10} ready in {time.monotonic() - started:.2f} s")

    async def keep_running(self) -> None:
        """Start the program again whenever it ends, until stop(). The pause before doubles while it keeps dying."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            healthy_since = time.monotonic()
            await self._wait()
            if self._stopping.is_set():
                return
            self._kill_group()
            if time.monotonic() - healthy_since >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._restarts += 1
            self._set("restarting")
            self._say(
                f"{self.program.name:<10} ended with {describe_exit(self._exit_status())}; again in {pause:.1f} s"
            )
            if await self._stops_within(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._spawn()
            if await self._becomes_ready():
                self._set("running")
                self._say(f"{self.program.name:<10} runs again")
            elif self.status.pid is not None and not self._stopping.is_set():
                self._kill_group()

    async def stop(self) -> None:
        """Stop the program, kill it after its grace, and kill what it left in its process group."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            self._set("stopping")
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.program.stop_signal)
            try:
                async with asyncio.timeout(self.program.grace_seconds):
                    await process.wait()
            except TimeoutError:
                self._say(f"{self.program.name:<10} did not stop in {self.program.grace_seconds:.0f} s and is killed")
        self._kill_group()
        await self._wait()
        self._set("stopped")

    async def _spawn(self) -> None:
        log = logs.open_log(self._log)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *launcher(self.program.user, self.program.orphan_signal),
                *map(str, self.program.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.program.environment),
                cwd=self.program.folder,
                # A group of its own: Ctrl-C in the terminal reaches only the supervisor, which stops all in order.
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._changed()

    async def _becomes_ready(self) -> bool:
        """Wait until the program is ready; False when it ends first, is told to stop, or takes a minute."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    if await self.program.is_ready():
                        return self.status.pid is not None
            if self.status.pid is None or await self._stops_within(_POLL_SECONDS):
                return False
        return False

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _exit_status(self) -> int:
        return self._process.returncode or 0 if self._process is not None else 0

    def _kill_group(self) -> None:
        """Kill the program, and whatever it started that did not leave its process group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _set(self, state: ProcessState) -> None:
        self._state = state
        self._changed()


def launcher(user: pwd.struct_passwd | None, orphan_signal: signal.Signals) -> list[str]:
    """Return what goes before a command, so that it runs as this user and cannot outlive this process."""
    identity = ["-", "-"] if user is None else [str(user.pw_uid), str(user.pw_gid)]
    return [sys.executable, "-I", "-S", str(_SPAWN), str(os.getpid()), str(int(orphan_signal)), *identity]


def describe_exit(status: int) -> str:
    """Return an exit status in words: ``status 3``, or ``signal SIGKILL``."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
