"""The job queue: PgQueuer over the pool, with the fan-out in the place of its table trigger.

Jobs are enqueued in the transaction that makes them necessary. A worker's own bookkeeping (picked, heartbeat, done)
runs with ``synchronous_commit = off``: what a crash of the database takes from it only makes a job run again, and
every job must bear that.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable

import asyncpg
import structlog
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job, Schedule
from pgqueuer.domain.settings import DBSettings
from pgqueuer.ports.driver import NotifyCallback

from codeyard_server.core import canonical
from codeyard_server.core.bus import Bus
from codeyard_server.core.database import Transaction, keep_session

log = structlog.get_logger(__name__)

HEARTBEAT_TIMEOUT = datetime.timedelta(seconds=2)
BATCH = 20
_RESTART_SECONDS = 0.5

Handler = Callable[[bytes], Awaitable[None]]


class _BusDriver(AsyncpgPoolDriver):
    """Hands PgQueuer's listener to the process's own LISTEN connection instead of taking a connection for it."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        super().__init__(pool)
        self.callbacks: list[NotifyCallback] = []

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self.callbacks.append(callback)

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:
        self.callbacks.remove(callback)

    def deliver(self, payload: str) -> None:
        for callback in self.callbacks:
            callback(payload)


class _Manager(QueueManager):
    """Waits for the next wake-up without asking first whether there is work or when some falls due.

    Those are up to three statements after every batch. They make up for notifications that a trigger sends before the
    row is visible; ours come after the commit, in the same process, and no job of ours is deferred.
    """

    async def _effective_dequeue_timeout(self, dequeue_timeout: datetime.timedelta) -> datetime.timedelta:
        return dequeue_timeout


class Queue:
    """Enqueues jobs and runs the handlers registered for them, at most ``concurrency`` at a time."""

    def __init__(self, *, concurrency: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._stopping = asyncio.Event()
        self._settings = DBSettings()
        self._enqueue_sql = QueryQueueBuilder(settings=self._settings).build_enqueue_query()
        self._handlers: dict[str, Handler] = {}
        self._schedules: dict[str, tuple[str, Callable[[], Awaitable[None]]]] = {}
        self._driver: _BusDriver | None = None
        self._running: PgQueuer | None = None

    def handle(self, entrypoint: str, handler: Handler) -> None:
        """Register the handler of an entrypoint. It may run twice for one job and must bear it."""
        self._handlers[entrypoint] = handler

    def schedule(self, name: str, expression: str, handler: Callable[[], Awaitable[None]]) -> None:
        """Run a handler at the times of a cron expression (UTC), in one process at a time."""
        self._schedules[name] = (expression, handler)

    async def enqueue(self, tx: Transaction, entrypoint: str, payload: bytes) -> None:
        """Enqueue a job within the transaction; this process's worker is woken after its commit.

        The others look every second: the gateway spreads calls, and so jobs, evenly, and waking every worker for every
        job would only make them compete for it.
        """
        await tx.fetch(self._enqueue_sql, [0], [entrypoint], [payload], [datetime.timedelta()], [None], ["{}"])
        tx.after_commit(self._wake)

    def attach(self, bus: Bus) -> None:
        """Receive PgQueuer's own notifications (health probe, cancellation) over the bus."""
        bus.raw[self._settings.channel] = self._deliver

    def _deliver(self, payload: str) -> None:
        if self._driver is not None:
            self._driver.deliver(payload)

    def _wake(self) -> None:
        if self._driver is not None and self._driver.callbacks:
            event = {
                "channel": self._settings.channel,
                "operation": "insert",
                "sent_at": canonical.timestamp(datetime.datetime.now(datetime.UTC)),
                "table": self._settings.queue_table,
                "type": "table_changed_event",
            }
            self._driver.deliver(canonical.text(event))

    async def run(self, dsn: str) -> None:
        """Work until :meth:`stop`; a lost database is waited for."""
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=3,
            reset=keep_session,
            server_settings={
                "application_name": "codeyard-queue",
                "synchronous_commit": "off",
                "jit": "off",
                "plan_cache_mode": "force_generic_plan",
            },
        )
        try:
            while not self._stopping.is_set():
                try:
                    await self._work(pool)
                except Exception as error:  # noqa: BLE001 - whatever it was, the queue must go on
                    log.warning("queue.interrupted", error=repr(error))
                    await asyncio.sleep(_RESTART_SECONDS)
        finally:
            pool.terminate()

    async def _work(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._driver = _BusDriver(pool)
        worker = self._running = PgQueuer(self._driver)
        worker.qm = _Manager(worker.qm.queries, worker.qm.channel)
        worker.qm.shutdown = worker.shutdown
        for entrypoint, handler in self._handlers.items():
            worker.entrypoint(entrypoint)(self._job(handler))
        for name, (expression, task) in self._schedules.items():
            worker.schedule(name, expression)(_scheduled(task))
        if self._stopping.is_set():
            return
        try:
            await worker.run(
                dequeue_timeout=datetime.timedelta(seconds=1),
                batch_size=BATCH,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                log_aggregation_interval=datetime.timedelta(),
            )
        finally:
            self._running = None

    def _job(self, handler: Handler) -> Callable[[Job], Awaitable[None]]:
        async def run(job: Job) -> None:
            async with self._slots:
                await handler(job.payload or b"")

        return run

    def stop(self) -> None:
        """Take no further jobs; :meth:`run` ends when those that run have ended."""
        self._stopping.set()
        if self._running is not None:
            self._running.shutdown.set()


def _scheduled(task: Callable[[], Awaitable[None]]) -> Callable[[Schedule], Awaitable[None]]:
    async def run(schedule: Schedule) -> None:
        await task()

    return run
