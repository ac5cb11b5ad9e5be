"""Readers of event streams in a process of their own: every byte's arrival is noted, nothing else is done with it.

    python -m tests.bench.readers

Started by tests/bench/places.py. Commands, each a line of JSON, and their answers:

    {"do": "open", "address": …, "headers": {…}, "paths": […]}   -> {"open": readers}
    {"do": "wait", "events": n, "seconds": s}                    -> {"open": readers, "arrivals": {mark: [ns, …]}}
    {"do": "close"}                                              -> {}

An event is known by the ``mark`` in its data; times are those of the monotonic clock, which all processes share.
``wait`` answers when this many events have come since the last answer, or after this many seconds.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import re
import resource
import sys
import time
from typing import Any

import uvloop

from tests.bench.wire import Stream, Target

_MARK = re.compile(rb'"mark":\s?(\d+)')
_OPENING_AT_ONCE = 64


class Readers:
    """Streams that are open, and what they have received."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self._arrivals: dict[bytes, list[int]] = collections.defaultdict(list)
        self._count = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    def receive(self, data: bytes) -> None:
        """Note the events of a piece of a stream."""
        now = time.monotonic_ns()
        marks = _MARK.findall(data)
        for mark in marks:
            self._arrivals[mark].append(now)
        self._count += len(marks)
        if 0 < self._wanted <= self._count:
            self._enough.set()

    async def open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open a stream on each path."""
        target = Target(command["address"], command["headers"])
        left = iter(command["paths"])

        async def some() -> None:
            for path in left:
                self._streams.append(await target.stream(path, self.receive))

        await asyncio.gather(*(some() for _ in range(_OPENING_AT_ONCE)))
        return {"open": self._open()}

    async def wait(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait for events; see above."""
        self._wanted = command["events"]
        if self._count < self._wanted:
            self._enough.clear()
            try:
                async with asyncio.timeout(command["seconds"]):
                    await self._enough.wait()
            except TimeoutError:
                pass  # the answer shows what is missing
        arrivals = {mark.decode(): times for mark, times in self._arrivals.items()}
        self._arrivals.clear()
        self._count = self._wanted = 0
        return {"open": self._open(), "arrivals": arrivals}

    async def close(self, _command: dict[str, Any]) -> dict[str, Any]:
        """Close all streams."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        return {}

    def _open(self) -> int:
        return sum(not stream.ended for stream in self._streams)


async def serve() -> None:
    """Answer commands until stdin ends."""
    readers = Readers()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer = await {"open": readers.open, "wait": readers.wait, "close": readers.close}[command["do"]](command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A collection here would show as a latency of what is measured.
    gc.disable()
    uvloop.run(serve())
