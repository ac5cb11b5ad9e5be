"""The event log and the fan-out on a real database: order, gaps, duplicates, readers that come back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import uuid
from collections.abc import AsyncIterator

import pytest
from codeyard_server.core import errors
from codeyard_server.core.bus import Bus
from codeyard_server.core.database import Database
from codeyard_server.core.events import DuplicateStep, EventLog, NewEvent, StaleGeneration
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.ids import new_id
from codeyard_server.core.record import Record
from codeyard_server.core.subscribe import Subscriptions

WRITERS = 8
READERS = 12
EVENTS_PER_WRITER = 60


@dataclasses.dataclass
class Process:
    """What one server process has of the log."""

    database: Database
    events: EventLog
    subscriptions: Subscriptions
    fanout: FanOut


@contextlib.asynccontextmanager
async def process(dsn: str) -> AsyncIterator[Process]:
    """Wire the log as main.py does, with a bus of its own, so that two of these talk as two processes do."""
    database = await Database.connect(dsn, size=8)
    fanout = FanOut()
    events = EventLog(fanout)
    bus = asyncio.create_task(Bus(dsn, database, events, fanout).run())
    try:
        yield Process(database, events, Subscriptions(database, events, fanout), fanout)
    finally:
        bus.cancel()
        await asyncio.gather(bus, return_exceptions=True)
        await database.close()


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Process]:
    """One process."""
    async with process(database_url) as one:
        yield one


async def new_stream(where: Process) -> uuid.UUID:
    """Create a stream."""
    stream_id = new_id()
    async with where.database.transaction() as tx:
        await where.events.create_stream(tx, stream_id, "test", None)
    return stream_id


async def append(where: Process, stream_id: uuid.UUID, *new: NewEvent, generation: int | None = None) -> list[Record]:
    """Append in a transaction of its own."""
    async with where.database.transaction() as tx:
        return await where.events.append(tx, stream_id, new, generation=generation)


async def test_append_numbers_from_one_and_ids_grow_with_the_numbers(yard: Process) -> None:
    """Sequences have no gap, and ids order as they do, also within one millisecond."""
    stream_id = await new_stream(yard)
    records = [
        record for _ in range(50) for record in await append(yard, stream_id, NewEvent("a", {}), NewEvent("b", {}))
    ]
    assert [record.seq for record in records] == list(range(1, 101))
    ids = [record.id for record in records if record.id]
    assert ids == sorted(ids) and len(set(ids)) == 100
    assert all(value.version == 7 for value in ids)


async def test_append_leaves_no_gap_when_its_transaction_fails(yard: Process) -> None:
    """Numbers of a transaction that rolls back are given again."""
    stream_id = await new_stream(yard)
    with contextlib.suppress(ZeroDivisionError):
        async with yard.database.transaction() as tx:
            await yard.events.append(tx, stream_id, [NewEvent("lost", {})])
            raise ZeroDivisionError
    (record,) = await append(yard, stream_id, NewEvent("kept", {}))
    assert record.seq == 1


async def test_append_refuses_a_step_that_has_written_already(yard: Process) -> None:
    """The same step, type and ordinal cannot be written twice; the log stays as it was."""
    stream_id, step = await new_stream(yard), new_id()
    event = NewEvent("tool.call_completed", {}, exec_id=step, ordinal=2)
    await append(yard, stream_id, event)
    with pytest.raises(DuplicateStep):
        await append(yard, stream_id, event)
    (record,) = await append(yard, stream_id, dataclasses.replace(event, ordinal=3))
    assert record.seq == 2


async def test_append_refuses_a_generation_that_was_taken_over_from(yard: Process) -> None:
    """A writer with an older generation writes nothing."""
    stream_id = await new_stream(yard)
    await append(yard, stream_id, NewEvent("a", {}), generation=0)
    async with yard.database.transaction() as tx:
        await tx.execute("UPDATE streams SET generation = 1 WHERE id = $1", stream_id)
    with pytest.raises(StaleGeneration):
        await append(yard, stream_id, NewEvent("late", {}), generation=0)
    (record,) = await append(yard, stream_id, NewEvent("b", {}), generation=1)
    assert record.seq == 2


async def test_cursor_of_another_stream_is_refused(yard: Process) -> None:
    """An event id is a cursor only in its own stream."""
    mine, other = await new_stream(yard), await new_stream(yard)
    (record,) = await append(yard, other, NewEvent("a", {}))
    async with yard.database.connection() as tx:
        with pytest.raises(errors.CursorUnknown):
            await yard.events.resolve_cursor(tx, mine, record.id)
        assert await yard.events.resolve_cursor(tx, other, record.id) == 1


async def test_follow_ends_when_the_stream_is_deleted_by_another_process(yard: Process, database_url: str) -> None:
    """A subscriber of a deleted stream is not left waiting, also when the hint is lost."""
    stream_id = await new_stream(yard)
    await append(yard, stream_id, NewEvent("a", {}))

    async def read() -> list[int]:
        return [record.seq async for batch in yard.subscriptions.follow(stream_id, 0) for record in batch or ()]

    reading = asyncio.create_task(read())
    async with process(database_url) as other, other.database.transaction() as tx:
        await tx.execute("DELETE FROM streams WHERE id = $1", stream_id)
    async with asyncio.timeout(10):
        assert await reading == [1]


async def test_every_reader_sees_every_event_once_and_in_order(yard: Process, database_url: str) -> None:
    """Writers in two processes, readers in two, which drop off at random and come back at a random cursor they had.

    Whatever a reader sees after a cursor is exactly what the log has after it.
    """
    stream_ids = [await new_stream(yard) for _ in range(3)]
    total = WRITERS * EVENTS_PER_WRITER
    chance = random.Random(7)

    async def write(where: Process, number: int) -> None:
        for i in range(EVENTS_PER_WRITER):
            stream_id = stream_ids[(number + i) % len(stream_ids)]
            await append(where, stream_id, *(NewEvent("e", {"writer": number, "i": i, "n": n}) for n in range(2)))

    async def read(where: Process, stream_id: uuid.UUID, expected: int) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        while len(seen) < expected:
            # A client may come back at any cursor it has had; what it had after it comes again, unchanged.
            cut = chance.randint(max(0, len(seen) - 5), len(seen))
            again, seen = seen[cut:], seen[:cut]
            stay = chance.randint(1, 40)
            async with contextlib.aclosing(where.subscriptions.follow(stream_id, len(seen))) as batches:
                async for batch in batches:
                    seen += [(record.seq, record.data) for record in batch or ()]
                    if len(seen) - cut >= stay or len(seen) >= expected:
                        break
            overlap = min(len(again), len(seen) - cut)
            assert seen[cut : cut + overlap] == again[:overlap]
        return seen

    async with process(database_url) as other:
        places = [yard, other]
        share = 2 * total // len(stream_ids)
        readers = [
            asyncio.create_task(read(places[n % 2], stream_ids[n % len(stream_ids)], share)) for n in range(READERS)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(write(places[n % 2], n) for n in range(WRITERS)))
            results = await asyncio.gather(*readers)
        async with yard.database.connection() as tx:
            logs = {
                stream_id: [(r.seq, r.data) for r in (await yard.events.read(tx, stream_id, after=0, limit=10_000))[0]]
                for stream_id in stream_ids
            }
    for number, seen in enumerate(results):
        assert seen == logs[stream_ids[number % len(stream_ids)]]
        assert [seq for seq, _ in seen] == list(range(1, share + 1))
