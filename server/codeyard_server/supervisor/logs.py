"""The log files of a yard's processes.

Each process writes into its own file, opened for appending, so nothing of ours stands between it and the disk, and what
a dying process says is kept even when the supervisor dies too. A file that has grown is copied aside and cut to
nothing, which the writer does not notice; the lines of the moment between are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil

MAX_BYTES = 16 * 1024 * 1024
"""Size at which a file is put aside. There is one older file, so a process takes at most about twice this."""

CHECK_SECONDS = 5.0
_TAIL_BYTES = 16 * 1024


def open_log(path: pathlib.Path) -> int:
    """Open a log file for appending, private, and return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def size(path: pathlib.Path) -> int:
    """Return the size of a log in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: pathlib.Path, since: int = 0, lines: int = 15) -> str:
    """Return the last lines that were written after byte ``since``."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(since, size(path) - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def rotate(folder: pathlib.Path, max_bytes: int = MAX_BYTES) -> None:
    """Put every log aside that has grown past the limit. On a full disk it is only cut."""
    for path in folder.glob("*.log"):
        if size(path) > max_bytes:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, path.with_suffix(".log.1"))
            with contextlib.suppress(OSError):
                os.truncate(path, 0)


async def keep_small(folder: pathlib.Path) -> None:
    """Rotate for as long as the task runs."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        await asyncio.to_thread(rotate, folder)
