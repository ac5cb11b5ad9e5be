"""Housekeeping of what the core itself writes."""

from __future__ import annotations

from codeyard_server.core.database import Database

_PURGE_QUEUE_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - interval '1 hour'"


async def purge_queue_log(database: Database) -> None:
    """Delete the queue's log of jobs older than an hour; nothing reads it later, and it gets two rows a job."""
    async with database.connection() as tx:
        await tx.execute(_PURGE_QUEUE_LOG)
