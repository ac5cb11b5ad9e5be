"""The entry: a client of one yard."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from codeyard_client._channel import Address, check_token
from codeyard_client._method import Q, R, Unary
from codeyard_client.aio.agents import AsyncAgents
from codeyard_client.aio.capabilities import AsyncCapabilities, AsyncMcpServers
from codeyard_client.aio.models import AsyncModels, AsyncProviders
from codeyard_client.aio.sessions import AsyncSessions
from codeyard_client.aio.transport import AsyncTransport
from codeyard_client.gen.codeyard.system.v1 import GetHealthRequest, GetHealthResponse
from codeyard_client.gen.methods import SystemService

DEFAULT_URL = "http://127.0.0.1:8080"


class AsyncClient:
    """A client of one yard. Use it as a context manager, or call ``close``.

    It keeps one connection, opened by the first call and opened again whenever it breaks.
    """

    agents: AsyncAgents
    """Stored agents."""
    sessions: AsyncSessions
    """Sessions of any agent."""
    models: AsyncModels
    """Models of the providers."""
    providers: AsyncProviders
    """Model providers."""
    capabilities: AsyncCapabilities
    """The catalogue of capabilities."""
    mcp_servers: AsyncMcpServers
    """Tool servers of one's own."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retry_seconds: float = 5.0,
        reconnect_seconds: float = 60.0,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        ``url`` and ``token`` default to the environment's ``CODEYARD_URL`` and ``CODEYARD_TOKEN``, then to
        ``http://127.0.0.1:8080`` and none. All times are in seconds: ``timeout`` of one call with its repetitions,
        ``retry_seconds`` how long a call that may be repeated is, while the yard does not answer, and
        ``reconnect_seconds`` how long a stream of events tries to go on after it was cut.

        Raises:
            ValueError: the URL or the token is malformed.
        """
        address = Address.parse(url or os.environ.get("CODEYARD_URL") or DEFAULT_URL)
        credential = check_token(token or os.environ.get("CODEYARD_TOKEN"))
        self._transport = AsyncTransport(
            address, credential, timeout=timeout, retry_seconds=retry_seconds, reconnect_seconds=reconnect_seconds
        )
        self.agents = AsyncAgents(self._transport)
        self.sessions = AsyncSessions(self._transport)
        self.models = AsyncModels(self._transport)
        self.providers = AsyncProviders(self._transport)
        self.capabilities = AsyncCapabilities(self._transport)
        self.mcp_servers = AsyncMcpServers(self._transport)

    @property
    def url(self) -> str:
        """Where the yard is."""
        return self._transport.address.url

    async def health(self) -> GetHealthResponse:
        """Return the state of the yard; needs no token.

        Raises:
            Unavailable: it cannot do its work.
        """
        return await self._transport.call(SystemService.GET_HEALTH, GetHealthRequest())

    async def call(self, method: Unary[Q, R], request: Q, *, idempotency_key: str | None = None) -> R:
        """Send any unary RPC of ``codeyard_client.gen.methods``, with token, repetitions and typed errors."""
        return await self._transport.call(method, request, idempotency_key=idempotency_key)

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"
