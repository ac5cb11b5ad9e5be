"""Statements of turns."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from codeyard_server.core.database import Transaction
from codeyard_server.core.events import record_of
from codeyard_server.core.queries import Queries
from codeyard_server.core.record import Record
from codeyard_server.core.scope import Scope

sql = Queries.beside(__file__)


@dataclasses.dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A user's message that no turn has taken."""

    seq: int
    message: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class LockedSession:
    """A session whose stream's row is locked, with the turn that runs in it, if one does."""

    agent_id: uuid.UUID
    owner_id: uuid.UUID | None
    model_id: uuid.UUID | None
    waiting: tuple[WaitingMessage, ...]
    """Messages that no turn has taken; not read while a turn runs."""
    first_turn: bool
    turn_id: uuid.UUID | None
    turn_started_at: datetime.datetime | None
    cancel_requested: bool
    leased: bool


async def lock_session(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> LockedSession | None:
    """Lock the session's stream and return where it stands; None when it is gone."""
    if await tx.value(sql.lock_stream, session_id) is None:
        return None
    row = await tx.row(sql.locked_session, session_id)
    if row is None:
        return None
    return LockedSession(
        agent_id=row["agent_id"],
        owner_id=row["owner_id"],
        model_id=row["model_id"],
        waiting=tuple(
            WaitingMessage(seq, json.loads(data)["message"])
            for seq, data in zip(row["seqs"] or (), row["messages"] or (), strict=True)
        ),
        first_turn=row["started_at"] is None,
        turn_id=row["turn_id"],
        turn_started_at=row["turn_started_at"],
        cancel_requested=bool(row["cancel_requested"]),
        leased=row["leased"],
    )


async def start_turn(
    tx: Transaction,
    scope: Scope,
    session_id: uuid.UUID,
    turn_id: uuid.UUID,
    input_seq: int,
    owner: uuid.UUID,
    lease: float,
    now: datetime.datetime,
) -> int:
    """Start a turn that takes all messages up to a sequence, under a lease in seconds; return the generation."""
    return int(await tx.value(sql.start_turn, session_id, turn_id, input_seq, owner, lease, now))


async def take_over_turn(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, turn_id: uuid.UUID, owner: uuid.UUID, lease: float
) -> int:
    """Take a turn whose lease has run out; return the new generation, which refuses the former owner's writes."""
    return int(await tx.value(sql.take_over_turn, session_id, turn_id, owner, lease))


async def end_turn(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, turn_id: uuid.UUID, state: str, now: datetime.datetime
) -> bool:
    """End a turn as "completed", "failed" or "cancelled"; return whether messages wait."""
    return bool(await tx.value(sql.end_turn, session_id, turn_id, state, now))


async def renew_leases(
    tx: Transaction, scope: Scope, owner: uuid.UUID, turn_ids: Sequence[uuid.UUID], lease: float
) -> dict[uuid.UUID, bool]:
    """Renew leases; return the turns still owned -> whether their cancel is asked for."""
    rows = await tx.fetch(sql.renew_leases, owner, list(turn_ids), lease)
    return {row["id"]: row["cancel_requested"] for row in rows}


async def release_leases(tx: Transaction, scope: Scope, owner: uuid.UUID) -> None:
    """Let others take the owner's turns at once."""
    await tx.execute(sql.release_leases, owner)


async def request_cancel(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> uuid.UUID | None:
    """Ask the running turn to end as cancelled; return it, or None when none runs."""
    turn_id: uuid.UUID | None = await tx.value(sql.request_cancel, session_id)
    return turn_id


async def turn_events(tx: Transaction, scope: Scope, session_id: uuid.UUID, turn_id: uuid.UUID) -> list[Record]:
    """Return the events of a turn, in order."""
    return _records(await tx.fetch(sql.turn_events, session_id, turn_id))


async def history(tx: Transaction, scope: Scope, session_id: uuid.UUID, max_bytes: int) -> list[Record]:
    """Return the events a history is made from, in order; of a long conversation, the newest within max_bytes."""
    return _records(await tx.fetch(sql.history, session_id, max_bytes))


async def abandoned_sessions(tx: Transaction, scope: Scope, *, limit: int, waiting_seconds: float) -> list[uuid.UUID]:
    """Return sessions somebody must take care of."""
    return [row["session_id"] for row in await tx.fetch(sql.abandoned_sessions, limit, waiting_seconds)]


def _records(rows: Sequence[asyncpg.Record]) -> list[Record]:
    return [record_of(row) for row in rows]
