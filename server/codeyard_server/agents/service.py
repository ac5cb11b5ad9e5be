"""RPCs of agents."""

from __future__ import annotations

import datetime
import uuid

from codeyard.agents.v1 import agent_pb2
from codeyard.agents.v1 import agent_service_pb2 as pb
from google.protobuf.empty_pb2 import Empty

from codeyard_server.agents import logic, store
from codeyard_server.capabilities import Catalogue
from codeyard_server.core import paging
from codeyard_server.core.call import Call
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database
from codeyard_server.core.lists import Page, envelope, optional_strings
from codeyard_server.core.permission import Permission
from codeyard_server.models import require_model


class AgentService:
    """Stored agent configurations."""

    def __init__(self, database: Database, catalogue: Catalogue, clock: Clock) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clock = clock

    async def create_agent(self, request: pb.CreateAgentRequest, call: Call) -> agent_pb2.Agent:
        scope = call.require(Permission.AGENT_WRITE)
        capabilities = await self._catalogue.validate(scope, list(request.capabilities))
        draft = logic.draft_agent(request, capabilities, self._clock())
        async with self._database.transaction() as tx:
            await require_model(tx, scope, draft.default_model_id)
            agent = await store.insert_agent(tx, scope, draft)
            await call.remember(tx, agent)
        return agent

    async def list_agents(self, request: pb.ListAgentsRequest, call: Call) -> pb.ListAgentsResponse:
        scope = call.require(Permission.AGENT_READ)
        page = Page(request)
        async with self._database.connection() as tx:
            rows = await store.list_agents(tx, scope, after=page.after, limit=page.limit + 1, offset=page.offset)
            total = await store.count_agents(tx, scope)
        items, last = page.split(rows)
        token = None
        if last is not None:
            token = paging.encode(last.created_at.ToDatetime(tzinfo=datetime.UTC), uuid.UUID(last.id))
        response: pb.ListAgentsResponse = envelope(
            call, pb.ListAgentsResponse(items=items, total=total, next_page_token=token)
        )
        return response

    async def get_agent(self, request: pb.GetAgentRequest, call: Call) -> agent_pb2.Agent:
        scope = call.require(Permission.AGENT_READ)
        async with self._database.connection() as tx:
            return await store.get_agent(tx, scope, uuid.UUID(request.id))

    async def update_agent(self, request: pb.UpdateAgentRequest, call: Call) -> agent_pb2.Agent:
        scope = call.require(Permission.AGENT_WRITE)
        capabilities = optional_strings(request, "capabilities")
        if capabilities is not None:
            capabilities = await self._catalogue.validate(scope, capabilities)
        patch = logic.patch_agent(request, capabilities)
        async with self._database.transaction() as tx:
            await require_model(tx, scope, patch.default_model_id)
            return await store.update_agent(tx, scope, uuid.UUID(request.id), patch, self._clock())

    async def archive_agent(self, request: pb.ArchiveAgentRequest, call: Call) -> Empty:
        scope = call.require(Permission.AGENT_WRITE)
        async with self._database.transaction() as tx:
            await store.archive_agent(tx, scope, uuid.UUID(request.id), self._clock())
        return Empty()

    async def list_agent_capabilities(
        self, request: pb.ListAgentCapabilitiesRequest, call: Call
    ) -> pb.ListAgentCapabilitiesResponse:
        scope = call.require(Permission.AGENT_READ)
        async with self._database.connection() as tx:
            agent = await store.get_agent(tx, scope, uuid.UUID(request.agent_id))
        return _positions(call, agent)

    async def set_agent_capabilities(
        self, request: pb.SetAgentCapabilitiesRequest, call: Call
    ) -> pb.ListAgentCapabilitiesResponse:
        scope = call.require(Permission.AGENT_WRITE)
        capabilities = await self._catalogue.validate(scope, optional_strings(request, "capabilities") or [])
        async with self._database.transaction() as tx:
            agent = await store.update_agent(
                tx, scope, uuid.UUID(request.agent_id), logic.only_capabilities(capabilities), self._clock()
            )
        return _positions(call, agent)


def _positions(call: Call, agent: agent_pb2.Agent) -> pb.ListAgentCapabilitiesResponse:
    items = [
        agent_pb2.AgentCapability(capability_id=capability, position=position)
        for position, capability in enumerate(agent.capabilities)
    ]
    response: pb.ListAgentCapabilitiesResponse = envelope(
        call, pb.ListAgentCapabilitiesResponse(items=items, total=len(items))
    )
    return response
