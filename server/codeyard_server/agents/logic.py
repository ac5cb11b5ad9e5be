"""Rules of agents that no annotation can say."""

from __future__ import annotations

import dataclasses
import datetime
import uuid

from codeyard.agents.v1 import agent_service_pb2 as pb

from codeyard_server.core.ids import new_id
from codeyard_server.core.lists import optional_strings

ACTIVE = "active"
ARCHIVED = "archived"


@dataclasses.dataclass(frozen=True, slots=True)
class AgentDraft:
    """An agent that is about to be stored."""

    id: uuid.UUID
    name: str
    description: str | None
    system_prompt: str
    default_model_id: uuid.UUID | None
    tags: list[str]
    capabilities: list[str]
    now: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class AgentPatch:
    """A change; None leaves a column as it is."""

    name: str | None
    description: str | None
    system_prompt: str | None
    default_model_id: uuid.UUID | None
    tags: list[str] | None
    capabilities: list[str] | None
    status: str | None


def draft_agent(request: pb.CreateAgentRequest, capabilities: list[str], now: datetime.datetime) -> AgentDraft:
    """Return the agent a request asks for, with capability ids that the catalogue has checked."""
    return AgentDraft(
        id=new_id(),
        name=request.name,
        description=request.description if request.HasField("description") else None,
        system_prompt=request.system_prompt,
        default_model_id=uuid.UUID(request.default_model_id) if request.HasField("default_model_id") else None,
        tags=list(request.tags),
        capabilities=capabilities,
        now=now,
    )


def patch_agent(request: pb.UpdateAgentRequest, capabilities: list[str] | None) -> AgentPatch:
    """Return the change a request asks for: only members that are present."""
    return AgentPatch(
        name=request.name if request.HasField("name") else None,
        description=request.description if request.HasField("description") else None,
        system_prompt=request.system_prompt if request.HasField("system_prompt") else None,
        default_model_id=uuid.UUID(request.default_model_id) if request.HasField("default_model_id") else None,
        tags=optional_strings(request, "tags"),
        capabilities=capabilities,
        status=request.status if request.HasField("status") else None,
    )


def only_capabilities(capabilities: list[str]) -> AgentPatch:
    """Return the change that replaces the capabilities and nothing else."""
    return AgentPatch(None, None, None, None, None, capabilities, None)
