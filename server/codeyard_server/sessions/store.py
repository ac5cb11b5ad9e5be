"""Statements of sessions and messages."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence

import asyncpg
from codeyard.sessions.v1 import session_pb2 as pb

from codeyard_server.core import errors, paging
from codeyard_server.core.database import Transaction
from codeyard_server.core.queries import Queries
from codeyard_server.core.record import Record
from codeyard_server.core.scope import Scope
from codeyard_server.sessions.logic import SessionDraft

sql = Queries.beside(__file__)


def session(row: asyncpg.Record) -> pb.Session:
    """Return a row as a session."""
    return pb.Session(
        id=str(row["id"]),
        agent_id=str(row["agent_id"]),
        title=row["title"],
        tags=row["tags"],
        model_id=str(row["model_id"]) if row["model_id"] else None,
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _found(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise errors.NotFound("Session not found")
    return row


async def insert_session(tx: Transaction, scope: Scope, draft: SessionDraft) -> pb.Session:
    """Store a session; its stream must exist.

    Raises:
        ModelUnknown: its model has been deleted meanwhile.
    """
    try:
        row = await tx.row(
            sql.insert_session,
            draft.id,
            draft.agent_id,
            scope.user_id,
            draft.title,
            draft.tags,
            draft.model_id,
            draft.now,
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise errors.ModelUnknown("No model has this id") from error
    return session(_found(row))


async def get_session(tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID) -> pb.Session:
    """Return a session of an agent.

    Raises:
        NotFound: there is none, or it is another agent's.
    """
    return session(_found(await tx.row(sql.get_session, session_id, agent_id)))


async def require_session(tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID) -> None:
    """Check that a session exists under an agent.

    Raises:
        NotFound: it does not.
    """
    if await tx.value(sql.session_exists, session_id, agent_id) is None:
        raise errors.NotFound("Session not found")


async def lock_session(tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID) -> None:
    """Lock a session of an agent, so that no turn of it starts or ends meanwhile.

    Raises:
        NotFound: there is none, or it is another agent's.
    """
    if await tx.value(sql.lock_session, session_id, agent_id) is None:
        raise errors.NotFound("Session not found")


async def list_sessions(
    tx: Transaction,
    scope: Scope,
    agent_id: uuid.UUID,
    *,
    after: tuple[datetime.datetime, uuid.UUID] | None,
    limit: int,
    offset: int,
) -> list[pb.Session]:
    """Return an agent's sessions, newest first, after a sort key."""
    moment, row_id = after or (None, None)
    return [session(row) for row in await tx.fetch(sql.list_sessions, agent_id, moment, row_id, limit, offset)]


async def count_sessions(tx: Transaction, scope: Scope, agent_id: uuid.UUID) -> int:
    """Return how many sessions an agent has."""
    return int(await tx.value(sql.count_sessions, agent_id))


async def update_session(
    tx: Transaction,
    scope: Scope,
    agent_id: uuid.UUID,
    session_id: uuid.UUID,
    *,
    title: str | None,
    tags: Sequence[str] | None,
    model_id: uuid.UUID | None,
    now: datetime.datetime,
) -> pb.Session:
    """Change a session; None leaves a column as it is.

    Raises:
        NotFound: there is none, or it is another agent's.
    """
    return session(_found(await tx.row(sql.update_session, session_id, agent_id, title, tags, model_id, now)))


async def delete_session(tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID) -> None:
    """Delete a session with all that hangs on it.

    Raises:
        NotFound: there is none, or it is another agent's.
    """
    _found(await tx.row(sql.delete_session, session_id, agent_id))


async def message_asked(
    tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID, seq: int, now: datetime.datetime
) -> None:
    """Record that the user's message at seq waits for an answer. The stream's row must be locked.

    Raises:
        NotFound: there is no such session, or it is another agent's.
    """
    _found(await tx.row(sql.message_asked, session_id, agent_id, seq, now))


async def conversation(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, *, after: int, limit: int, offset: int
) -> tuple[list[Record], bool]:
    """Return the events that hold messages, in order, and whether more follow them; at most paging.PAGE_BYTES."""
    rows = await tx.fetch(sql.conversation, session_id, after, limit, offset, paging.PAGE_BYTES)
    records = [
        Record(session_id, row["seq"], row["id"], row["type"], row["data"], row["created_at"], tags=row["tags"])
        for row in rows
    ]
    return records, bool(rows) and rows[0]["found"] > len(rows)


async def conversation_size(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> int:
    """Return how many messages a session has."""
    return int(await tx.value(sql.conversation_size, session_id))
