"""A pseudo-terminal for tests: a command as a person uses it, with keys to press and a screen to read."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

_DEADLINE_SECONDS = 60.0
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A command that runs on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._screen = b""
        self._read = 0

    @property
    def screen(self) -> str:
        """All that was printed, without the codes that colour and move."""
        return _CODES.sub("", self._screen.decode(errors="replace"))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._descriptor, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait until this is printed after what was waited for before."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while (found := self.screen.find(text, self._read)) < 0:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.screen!r}"
            assert self._take(), f"the command ended without {text!r}: {self.screen!r}"
        self._read = found + len(text)

    def wait(self) -> int:
        """Wait until the command has ended, and return its exit status."""
        while self._take():
            pass
        return self.process.wait(_DEADLINE_SECONDS)

    def _take(self) -> bool:
        """Read what there is; return whether there can be more."""
        ready, _, _ = select.select([self._descriptor], [], [], 0.2)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            # Linux says so when the other side of the terminal is closed.
            return False
        self._screen += data
        return bool(data)


@contextlib.contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command on a terminal of its own; it is killed when it has not ended by itself."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        # A controlling terminal makes Ctrl-C a signal.
        ["setsid", "--ctty", "--wait", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(environment),
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
