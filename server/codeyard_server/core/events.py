"""The event log: append-only streams in Postgres.

A stream is a row that hands out sequence numbers; an event is immutable. Numbers are given under the lock of the
stream's row, so within a stream events become visible in their order, and there is no gap: an append that fails gives
its numbers back with the transaction. Event ids are UUIDv7 made of the greatest millisecond the stream has seen and
the sequence number, so they grow strictly with it.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from codeyard_server.core import canonical, errors
from codeyard_server.core.database import Transaction
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.paging import PAGE_BYTES
from codeyard_server.core.queries import Queries
from codeyard_server.core.record import Record

sql = Queries.beside(__file__)


@dataclasses.dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. ``data`` is a JSON value of the payload.

    ``exec_id`` names the step that writes it and ``ordinal`` tells events of one type within the step apart; the pair
    is unique in a stream, so a step that runs twice is refused the second time.
    """

    type: str
    data: Any
    turn_id: uuid.UUID | None = None
    input_message_id: uuid.UUID | None = None
    exec_id: uuid.UUID | None = None
    ordinal: int = 0
    tags: Sequence[str] | None = None


def sequence_in(event_id: uuid.UUID) -> int:
    """Return the sequence that an event id holds: the 12 bits after its version and the 20 after its variant.

    Of an id that is no event's it is just a number, so the row must be compared. See event_id() in the migrations.
    """
    digits = event_id.hex
    return int(digits[13:16] + digits[17:22], 16) & 0x7FFFFFFF


class StaleGeneration(Exception):
    """The stream is gone, or another owner has taken it over since."""


class DuplicateStep(Exception):
    """The step has written its events before; the log has its result."""


def record_of(row: asyncpg.Record) -> Record:
    """Return a row of events as a record."""
    return Record(
        stream_id=row["stream_id"],
        seq=row["seq"],
        id=row["id"],
        type=row["type"],
        data=row["data"],
        created_at=row["created_at"],
        turn_id=row["turn_id"],
        input_message_id=row["input_message_id"],
        exec_id=row["exec_id"],
        tags=row["tags"],
    )


class EventLog:
    """Appends to and reads streams; tells the fan-out after the commit."""

    def __init__(self, fanout: FanOut) -> None:
        self._fanout = fanout

    async def create_stream(self, tx: Transaction, stream_id: uuid.UUID, kind: str, owner_id: uuid.UUID | None) -> None:
        """Create an empty stream."""
        await tx.execute(sql.insert_stream, stream_id, kind, owner_id)

    async def append(
        self, tx: Transaction, stream_id: uuid.UUID, new: Sequence[NewEvent], *, generation: int | None = None
    ) -> list[Record]:
        """Append events, in order, in one statement; the stream's row stays locked until the transaction ends.

        Raises:
            StaleGeneration: the stream is gone, or ``generation`` is given and is not the stream's.
            DuplicateStep: an event of the same step is in the log.
        """
        printed = [canonical.text(event.data) for event in new]
        now = time.time_ns() // 1_000_000
        try:
            rows = await tx.fetch(
                sql.append_events,
                stream_id,
                len(new),
                now,
                generation,
                [event.type for event in new],
                [event.turn_id for event in new],
                [event.input_message_id for event in new],
                [event.exec_id for event in new],
                [event.ordinal for event in new],
                printed,
                [secrets.token_hex(5) for _ in new],
                [None if event.tags is None else canonical.text(list(event.tags)) for event in new],
            )
        except asyncpg.UniqueViolationError as error:
            raise DuplicateStep from error
        if not rows:
            raise StaleGeneration
        records = [
            Record(
                stream_id,
                row["seq"],
                row["id"],
                event.type,
                data,
                row["created_at"],
                event.turn_id,
                event.input_message_id,
                event.exec_id,
                event.tags,
            )
            for row, event, data in zip(rows, new, printed, strict=True)
        ]
        tx.after_commit(lambda: self._fanout.publish(stream_id, records))
        return records

    async def read(self, tx: Transaction, stream_id: uuid.UUID, *, after: int, limit: int) -> tuple[list[Record], bool]:
        """Return at most limit events with a sequence above ``after``, in order, and whether more follow them.

        A page ends early where its events are large; see paging.PAGE_BYTES.
        """
        rows = await tx.fetch(sql.read_events, stream_id, after, limit, PAGE_BYTES)
        return [record_of(row) for row in rows], bool(rows) and rows[0]["found"] > len(rows)

    async def read_many(self, tx: Transaction, cursors: Iterable[tuple[uuid.UUID, int]]) -> list[Record]:
        """Return what several streams have after their cursors, by stream and sequence; at most 200 of each."""
        pairs = list(cursors)
        rows = await tx.fetch(sql.read_many_events, [stream for stream, _ in pairs], [after for _, after in pairs])
        return [record_of(row) for row in rows]

    async def heads(self, tx: Transaction, stream_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
        """Return the last sequence of each stream that exists."""
        return {row["id"]: row["last_seq"] for row in await tx.fetch(sql.stream_heads, list(stream_ids))}

    async def resolve_cursor(self, tx: Transaction, stream_id: uuid.UUID, event_id: uuid.UUID | None) -> int:
        """Return the sequence to read after; 0 for no cursor.

        Raises:
            CursorUnknown: the stream has no event of this id.
        """
        if event_id is None:
            return 0
        seq = await tx.value(sql.event_sequence, stream_id, sequence_in(event_id), event_id)
        if seq is None:
            raise errors.CursorUnknown("The cursor names no event of this session")
        return int(seq)
