"""A subscriber's view of a stream: the log after a cursor, then whatever is committed, each event once and in order."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator

from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog
from codeyard_server.core.fanout import Channel, FanOut
from codeyard_server.core.record import Record

HEARTBEAT_SECONDS = 10.0
PAGE = 200


class Subscriptions:
    """Opens subscriptions on the log of one process."""

    def __init__(self, database: Database, log: EventLog, fanout: FanOut) -> None:
        self._database = database
        self._log = log
        self._fanout = fanout

    async def follow(
        self, stream_id: uuid.UUID, after: int, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> AsyncGenerator[list[Record] | None, None]:
        """Yield batches of events after the sequence ``after``; None after ``heartbeat`` seconds of silence.

        Ends when the stream is deleted. Live-only events come in between, in the order in which this process saw them.
        """
        channel = self._fanout.acquire(stream_id)
        try:
            cursor = after
            while True:
                # The position is taken before the log is read: what is committed meanwhile is then in both, and the
                # sequence tells it apart.
                position = channel.end
                async for page in self._catch_up(stream_id, cursor):
                    cursor = page[-1].seq
                    yield page
                self._fanout.seed(channel, cursor)
                async for batch, reached in self._live(channel, position, cursor, heartbeat):
                    cursor = reached
                    yield batch
                if channel.closed:
                    return
        finally:
            self._fanout.release(channel)

    async def _catch_up(self, stream_id: uuid.UUID, cursor: int) -> AsyncIterator[list[Record]]:
        while True:
            async with self._database.connection() as tx:
                page, more = await self._log.read(tx, stream_id, after=cursor, limit=PAGE)
            if page:
                cursor = page[-1].seq
                yield page
            if not more:
                return

    async def _live(
        self, channel: Channel, position: int, cursor: int, heartbeat: float
    ) -> AsyncIterator[tuple[list[Record] | None, int]]:
        """Yield from the ring until it no longer reaches back to position, has a gap, or the stream is closed."""
        while True:
            if not await channel.wait(position, heartbeat):
                yield None, cursor
                continue
            if position < channel.first:
                return
            batch: list[Record] = []
            entries = channel.since(position)
            position += len(entries)
            gap = False
            for record in entries:
                if record.seq == 0:
                    batch.append(record)
                elif record.seq == cursor + 1:
                    cursor = record.seq
                    batch.append(record)
                elif record.seq > cursor:
                    gap = True
                    break
            if batch:
                yield batch, cursor
            if gap or (channel.closed and position >= channel.end):
                return
