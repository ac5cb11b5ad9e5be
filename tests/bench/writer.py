"""A writer of events in a process of its own, either of our code or the peer's statement; it notes each commit's time.

    DATABASE_URL=postgresql://… python -m tests.bench.writer (core | listen)

Started by tests/bench/places.py. A command and its answer, each a line of JSON:

    {"streams": […], "first": n, "count": n, "rate": r or null, "together": n} -> {"started": ns, "commits": {mark: ns}}

Events go to the streams in turns, ``together`` in one transaction: ``rate`` transactions a second, or without one as
fast as the database takes them from eight connections. The mark of an event is a number in its data, counted from
``first``; times are those of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pathlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg
import uvloop
from codeyard_server.core.bus import Bus
from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog, NewEvent
from codeyard_server.core.fanout import FanOut

_PUBLISH = pathlib.Path(__file__).parent / "peers" / "publish_events.sql"
_CONNECTIONS = 8
_TEXT = "A sentence of a hundred characters stands for the payload, which most events have about that long..."


class Publisher(Protocol):
    """Stores events and tells the readers."""

    async def publish(self, stream: str, marks: Sequence[int]) -> int:
        """Store one event per mark, in one transaction, and return when it was committed."""
        ...


class CorePublisher:
    """Publishes as a third server process does."""

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[CorePublisher]:
        """Connect, and run what sends the hints."""
        database = await Database.connect(url, size=_CONNECTIONS)
        fanout = FanOut()
        events = EventLog(fanout)
        bus = asyncio.create_task(Bus(url, database, events, fanout).run())
        yield cls(database, events)
        bus.cancel()
        await asyncio.wait([bus])
        await database.close()

    async def publish(self, stream: str, marks: Sequence[int]) -> int:
        """See Publisher."""
        committed: list[int] = []
        async with self._database.connection() as tx:
            # The first callback runs before the one that tells the readers.
            tx.after_commit(lambda: committed.append(time.monotonic_ns()))
            new = [NewEvent("llm.generation", payload(mark)) for mark in marks]
            await self._events.append(tx, uuid.UUID(stream), new)
        return committed[0]


class ListenPublisher:
    """Publishes with the peer's statement."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._statement = _PUBLISH.read_text()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[ListenPublisher]:
        """Connect."""
        async with asyncpg.create_pool(url, min_size=_CONNECTIONS, max_size=_CONNECTIONS) as pool:
            yield cls(pool)

    async def publish(self, stream: str, marks: Sequence[int]) -> int:
        """See Publisher."""
        await self._pool.execute(
            self._statement, stream, [json.dumps(payload(mark)) for mark in marks], f"events_{stream}"
        )
        return time.monotonic_ns()


def payload(mark: int) -> dict[str, Any]:
    """Return the data of an event."""
    return {"mark": mark, "text": _TEXT}


async def run(publisher: Publisher, command: dict[str, Any]) -> dict[str, Any]:
    """Publish what a command asks for."""
    commits: dict[int, int] = {}
    streams = itertools.cycle(command["streams"])
    marks, together = range(command["first"], command["first"] + command["count"]), command["together"]
    parts = [marks[start : start + together] for start in range(0, len(marks), together)]
    started = time.monotonic_ns()

    async def publish(part: Sequence[int]) -> None:
        commits.update(dict.fromkeys(part, await publisher.publish(next(streams), part)))

    async def publish_all(left: Iterator[Sequence[int]]) -> None:
        for part in left:
            await publish(part)

    async with asyncio.TaskGroup() as group:
        if command["rate"] is None:
            left = iter(parts)
            for _ in range(_CONNECTIONS):
                group.create_task(publish_all(left))
        else:
            for number, part in enumerate(parts):
                due = started / 1e9 + number / command["rate"]
                await asyncio.sleep(max(due - time.monotonic(), 0))
                group.create_task(publish(part))
    return {"started": started, "commits": commits}


async def serve(kind: str) -> None:
    """Answer commands until stdin ends."""
    publishers: dict[str, Callable[[str], AbstractAsyncContextManager[Publisher]]] = {
        "core": CorePublisher.open,
        "listen": ListenPublisher.open,
    }
    async with publishers[kind](os.environ["DATABASE_URL"]) as publisher:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await run(publisher, json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
