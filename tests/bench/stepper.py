"""Durable steps on the event log, in a process of its own, with the command line and the answers of the peer.

    DATABASE_URL=postgresql://… python -m tests.bench.stepper --workflows 64 --steps 50

After the line ``ready`` every line on stdin runs one round and is answered by a line of JSON: ``{"steps", "seconds",
"steps_per_second", "p95"}``. ``steps`` is counted in the log, not assumed; ``p95`` is that of a step's time in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import uuid
from typing import Any

import uvloop
from codeyard_server.core.bus import Bus
from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog, NewEvent
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.ids import new_id
from codeyard_server.core.migrate import migrate

from tests.bench.figures import flat, percentile

_POOL = 20
_WARM_UP_STEPS = 5
_COUNT = "SELECT count(*) FROM events WHERE stream_id = ANY($1) AND exec_id IS NOT NULL"


class Stepper:
    """Runs workflows whose steps are events, written as a turn writes its own: one statement, under the generation."""

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events

    async def round(self, workflows: int, steps: int) -> dict[str, Any]:
        """Run workflows at once, each of so many steps one after another."""
        streams = [new_id() for _ in range(workflows)]
        started = time.perf_counter()
        times = await asyncio.gather(*(self._workflow(stream, steps) for stream in streams))
        seconds = time.perf_counter() - started
        async with self._database.connection() as tx:
            journaled = await tx.value(_COUNT, streams)
        return {
            "steps": journaled,
            "seconds": seconds,
            "steps_per_second": journaled / seconds,
            "p95": percentile(flat(times), 0.95),
        }

    async def _workflow(self, stream: uuid.UUID, steps: int) -> list[float]:
        async with self._database.transaction() as tx:
            await self._events.create_stream(tx, stream, "workflow", None)
        async with self._database.connection() as tx:
            # What a workflow that is taken up again begins with.
            done, _ = await self._events.read(tx, stream, after=0, limit=200)
        times = []
        for number in range(len(done), steps):
            started = time.perf_counter()
            event = NewEvent("tool.call_completed", {"step": number, "result": number}, exec_id=new_id())
            async with self._database.connection() as tx:
                await self._events.append(tx, stream, [event], generation=0)
            times.append(time.perf_counter() - started)
        async with self._database.connection() as tx:
            await self._events.append(tx, stream, [NewEvent("turn.completed", {})], generation=0)
        return times


async def serve(workflows: int, steps: int) -> None:
    """Answer each line of stdin with the figures of a round."""
    url = os.environ["DATABASE_URL"]
    await migrate(url)
    database = await Database.connect(url, size=_POOL)
    fanout = FanOut()
    events = EventLog(fanout)
    stepper = Stepper(database, events)
    bus = asyncio.create_task(Bus(url, database, events, fanout).run())
    await stepper.round(workflows, _WARM_UP_STEPS)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await stepper.round(workflows, steps)), flush=True)
    bus.cancel()
    await asyncio.wait([bus])
    await database.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workflows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    uvloop.run(serve(options.workflows, options.steps))


if __name__ == "__main__":
    main()
