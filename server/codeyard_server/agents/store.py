"""Statements of agents."""

from __future__ import annotations

import dataclasses
import datetime
import uuid

import asyncpg
from codeyard.agents.v1 import agent_pb2 as pb

from codeyard_server.agents.logic import AgentDraft, AgentPatch
from codeyard_server.core import errors
from codeyard_server.core.database import Transaction
from codeyard_server.core.queries import Queries
from codeyard_server.core.scope import Scope

sql = Queries.beside(__file__)


@dataclasses.dataclass(frozen=True, slots=True)
class AgentConfig:
    """What a turn needs of an agent."""

    id: uuid.UUID
    system_prompt: str
    default_model_id: uuid.UUID | None
    capabilities: tuple[str, ...]


def _agent(row: asyncpg.Record) -> pb.Agent:
    return pb.Agent(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        system_prompt=row["system_prompt"],
        default_model_id=str(row["default_model_id"]) if row["default_model_id"] else None,
        tags=row["tags"],
        capabilities=row["capabilities"],
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def insert_agent(tx: Transaction, scope: Scope, draft: AgentDraft) -> pb.Agent:
    """Store a new agent."""
    row = await tx.row(
        sql.insert_agent,
        draft.id,
        scope.user_id,
        draft.name,
        draft.description,
        draft.system_prompt,
        draft.default_model_id,
        draft.tags,
        draft.capabilities,
        draft.now,
    )
    assert row is not None
    return _agent(row)


async def get_agent(tx: Transaction, scope: Scope, agent_id: uuid.UUID) -> pb.Agent:
    """Return an agent, archived or not.

    Raises:
        NotFound: there is none.
    """
    row = await tx.row(sql.get_agent, agent_id)
    if row is None:
        raise errors.NotFound("Agent not found")
    return _agent(row)


async def list_agents(
    tx: Transaction, scope: Scope, *, after: tuple[datetime.datetime, uuid.UUID] | None, limit: int, offset: int
) -> list[pb.Agent]:
    """Return active agents, newest first, after a sort key."""
    moment, row_id = after or (None, None)
    return [_agent(row) for row in await tx.fetch(sql.list_agents, moment, row_id, limit, offset)]


async def count_agents(tx: Transaction, scope: Scope) -> int:
    """Return how many agents are active."""
    return int(await tx.value(sql.count_agents))


async def update_agent(
    tx: Transaction, scope: Scope, agent_id: uuid.UUID, patch: AgentPatch, now: datetime.datetime
) -> pb.Agent:
    """Change an agent.

    Raises:
        NotFound: there is none.
    """
    row = await tx.row(
        sql.update_agent,
        agent_id,
        patch.name,
        patch.description,
        patch.system_prompt,
        patch.default_model_id,
        patch.tags,
        patch.capabilities,
        patch.status,
        now,
    )
    if row is None:
        raise errors.NotFound("Agent not found")
    return _agent(row)


async def archive_agent(tx: Transaction, scope: Scope, agent_id: uuid.UUID, now: datetime.datetime) -> None:
    """Archive an active agent.

    Raises:
        NotFound: there is none, or it is archived.
    """
    if await tx.value(sql.archive_agent, agent_id, now) is None:
        raise errors.NotFound("Agent not found")


async def load_agent(tx: Transaction, scope: Scope, agent_id: uuid.UUID) -> AgentConfig:
    """Return what a turn needs of an agent, archived or not.

    Raises:
        NotFound: there is none.
    """
    row = await tx.row(sql.get_agent, agent_id)
    if row is None:
        raise errors.NotFound("Agent not found")
    return AgentConfig(row["id"], row["system_prompt"], row["default_model_id"], tuple(row["capabilities"]))
