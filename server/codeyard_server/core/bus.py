"""The one LISTEN connection of a process: feeds the fan-out, and the queue's own channel; reconnects for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog
from codeyard_server.core.fanout import CHANNEL, FanOut
from codeyard_server.core.record import Record

log = structlog.get_logger(__name__)

_NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
_RETRY_SECONDS = 0.25


class LogReader:
    """Lets the fan-out read the log through the pool."""

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events

    async def read_many(self, cursors: Iterable[tuple[UUID, int]]) -> list[Record]:
        """See fanout.Reader."""
        async with self._database.connection() as tx:
            return await self._events.read_many(tx, cursors)

    async def heads(self, stream_ids: Sequence[UUID]) -> dict[UUID, int]:
        """See fanout.Reader."""
        async with self._database.connection() as tx:
            return await self._events.heads(tx, stream_ids)


class Bus:
    """Runs the fan-out of a process over one listening connection and the pool."""

    def __init__(self, dsn: str, database: Database, events: EventLog, fanout: FanOut) -> None:
        self._dsn = dsn
        self._database = database
        self._fanout = fanout
        self._reader = LogReader(database, events)
        self.raw: dict[str, Callable[[str], None]] = {}
        """Further channels to listen on, with their receivers; set before :meth:`run`."""

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._fanout.run_sender(self._send))
            group.create_task(self._fanout.run_reader(self._reader))
            group.create_task(self._fanout.run_poll(self._reader))

    async def _send(self, payloads: list[str]) -> None:
        async with self._database.connection() as tx:
            await tx.execute(_NOTIFY, CHANNEL, payloads)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("bus.listen_failed", error=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen_once(self) -> None:
        connection = await asyncpg.connect(self._dsn, server_settings={"application_name": "codeyard-listen"})
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._receiver(self._fanout.receive))
            for channel, receiver in self.raw.items():
                await connection.add_listener(channel, self._receiver(receiver))
            self._fanout.poll_soon()
            await lost.wait()
        finally:
            with contextlib.suppress(Exception):
                connection.terminate()

    @staticmethod
    def _receiver(receive: Callable[[str], None]) -> Callable[[Any, int, str, object], None]:
        def listener(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            try:
                receive(str(payload))
            except Exception as error:  # noqa: BLE001 - one bad notification must not end the connection
                log.warning("bus.bad_payload", error=repr(error))

        return listener
