# Written by tools/gen_sdk.py from ../../aio/agents.py: change that one.
"""Agents: stored configurations that sessions run."""

from __future__ import annotations

from collections.abc import Sequence

from codeyard_client._channel import SyncStream
from codeyard_client._content import strings
from codeyard_client._fields import AgentFields
from codeyard_client.gen.codeyard.agents.v1 import Agent as AgentMessage
from codeyard_client.gen.codeyard.agents.v1 import (
    ArchiveAgentRequest,
    CreateAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
    UpdateAgentRequest,
)
from codeyard_client.gen.methods import AgentService
from codeyard_client.gen.sync.sessions import AgentSessions
from codeyard_client.gen.sync.transport import Transport


class Agent(AgentFields):
    """One agent."""

    def __init__(self, transport: Transport, message: AgentMessage) -> None:
        self._transport = transport
        self.message = message
        self.sessions = AgentSessions(transport, message.id)

    def refresh(self) -> None:
        """Read it again."""
        self.message = self._transport.call(AgentService.GET_AGENT, GetAgentRequest(id=self.id))

    def update(
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
        self.message = self._transport.call(AgentService.UPDATE_AGENT, request)

    def archive(self) -> None:
        """Take it out of the list; its sessions stay.

        Raises:
            NotFound: it is archived already.
        """
        self._transport.call(AgentService.ARCHIVE_AGENT, ArchiveAgentRequest(id=self.id))
        self.refresh()


class Agents:
    """The agents of a yard."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        system_prompt: str = "",
        *,
        description: str | None = None,
        default_model_id: str | None = None,
        tags: Sequence[str] = (),
        capabilities: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Agent:
        """Create an agent. A second call with the same ``idempotency_key`` within a day returns the first one's."""
        request = CreateAgentRequest(
            name=name,
            description=description,
            system_prompt=system_prompt,
            default_model_id=default_model_id,
            tags=list(tags),
            capabilities=list(capabilities),
        )
        message = self._transport.call(AgentService.CREATE_AGENT, request, idempotency_key=idempotency_key)
        return Agent(self._transport, message)

    def get(self, agent_id: str) -> Agent:
        """Return one agent, archived or not.

        Raises:
            NotFound: there is none.
        """
        message = self._transport.call(AgentService.GET_AGENT, GetAgentRequest(id=agent_id))
        return Agent(self._transport, message)

    def list(self, *, page_size: int = 100) -> SyncStream[Agent]:
        """Yield the active agents, newest first; pages are fetched as they are needed."""
        request = ListAgentsRequest(limit=page_size)
        while True:
            page = self._transport.call(AgentService.LIST_AGENTS, request)
            for message in page.items:
                yield Agent(self._transport, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
