"""Agents: stored configurations that sessions run."""

from __future__ import annotations

from collections.abc import Sequence

from codeyard_client._channel import AsyncStream
from codeyard_client._content import strings
from codeyard_client._fields import AgentFields
from codeyard_client.aio.sessions import AsyncAgentSessions
from codeyard_client.aio.transport import AsyncTransport
from codeyard_client.gen.codeyard.agents.v1 import Agent as AgentMessage
from codeyard_client.gen.codeyard.agents.v1 import (
    ArchiveAgentRequest,
    CreateAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
    UpdateAgentRequest,
)
from codeyard_client.gen.methods import AgentService


class AsyncAgent(AgentFields):
    """One agent."""

    def __init__(self, transport: AsyncTransport, message: AgentMessage) -> None:
        self._transport = transport
        self.message = message
        self.sessions = AsyncAgentSessions(transport, message.id)

    async def refresh(self) -> None:
        """Read it again."""
        self.message = await self._transport.call(AgentService.GET_AGENT, GetAgentRequest(id=self.id))

    async def update(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        system_prompt: str | None = None,
        default_model_id: str | None = None,
        tags: Sequence[str] | None = None,
        capabilities: Sequence[str] | None = None,
        status: str | None = None,
    ) -> None:
        """Change what is given; lists are replaced as a whole. ``status="active"`` takes it out of the archive."""
        request = UpdateAgentRequest(
            id=self.id,
            name=name,
            description=description,
            system_prompt=system_prompt,
            default_model_id=default_model_id,
            tags=strings(tags),
            capabilities=strings(capabilities),
            status=status,
        )
        self.message = await self._transport.call(AgentService.UPDATE_AGENT, request)

    async def archive(self) -> None:
        """Take it out of the list; its sessions stay.

        Raises:
            NotFound: it is archived already.
        """
        await self._transport.call(AgentService.ARCHIVE_AGENT, ArchiveAgentRequest(id=self.id))
        await self.refresh()


class AsyncAgents:
    """The agents of a yard."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        system_prompt: str = "",
        *,
        description: str | None = None,
        default_model_id: str | None = None,
        tags: Sequence[str] = (),
        capabilities: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> AsyncAgent:
        """Create an agent. A second call with the same ``idempotency_key`` within a day returns the first one's."""
        request = CreateAgentRequest(
            name=name,
            description=description,
            system_prompt=system_prompt,
            default_model_id=default_model_id,
            tags=list(tags),
            capabilities=list(capabilities),
        )
        message = await self._transport.call(AgentService.CREATE_AGENT, request, idempotency_key=idempotency_key)
        return AsyncAgent(self._transport, message)

    async def get(self, agent_id: str) -> AsyncAgent:
        """Return one agent, archived or not.

        Raises:
            NotFound: there is none.
        """
        message = await self._transport.call(AgentService.GET_AGENT, GetAgentRequest(id=agent_id))
        return AsyncAgent(self._transport, message)

    async def list(self, *, page_size: int = 100) -> AsyncStream[AsyncAgent]:
        """Yield the active agents, newest first; pages are fetched as they are needed."""
        request = ListAgentsRequest(limit=page_size)
        while True:
            page = await self._transport.call(AgentService.LIST_AGENTS, request)
            for message in page.items:
                yield AsyncAgent(self._transport, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
