"""The catalogue of capabilities, and MCP servers as capabilities."""

from __future__ import annotations

from collections.abc import Mapping

from codeyard_client._channel import AsyncStream
from codeyard_client.aio.transport import AsyncTransport
from codeyard_client.gen.codeyard.capabilities.v1 import (
    Capability,
    CreateMcpServerRequest,
    DeleteMcpServerRequest,
    GetCapabilityRequest,
    GetMcpServerRequest,
    ListCapabilitiesRequest,
    ListMcpServersRequest,
    McpServer,
)
from codeyard_client.gen.methods import CapabilityService, McpServerService


class AsyncCapabilities:
    """What agents of a yard can do."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> AsyncStream[Capability]:
        """Yield the catalogue, in its order."""
        catalogue = await self._transport.call(CapabilityService.LIST_CAPABILITIES, ListCapabilitiesRequest())
        for capability in catalogue.items:
            yield capability

    async def get(self, capability_id: str) -> Capability:
        """Return one capability.

        Raises:
            NotFound: there is none.
        """
        request = GetCapabilityRequest(capability_id=capability_id)
        return await self._transport.call(CapabilityService.GET_CAPABILITY, request)


class AsyncMcpServers:
    """Servers that offer tools over the Model Context Protocol; each is the capability ``mcp:<name>``."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, page_size: int = 100) -> AsyncStream[McpServer]:
        """Yield one's own servers and those of the whole yard, by name."""
        offset = 0
        while True:
            request = ListMcpServersRequest(limit=page_size, offset=offset)
            page = await self._transport.call(McpServerService.LIST_MCP_SERVERS, request)
            for server in page.items:
                yield server
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    async def get(self, server_id: str) -> McpServer:
        """Return one server.

        Raises:
            NotFound: there is none.
        """
        return await self._transport.call(McpServerService.GET_MCP_SERVER, GetMcpServerRequest(id=server_id))

    async def create(
        self,
        name: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        installation_wide: bool = False,
        idempotency_key: str | None = None,
    ) -> McpServer:
        """Add a server that speaks streamable HTTP. ``headers`` are secret: they are sent to it and never returned.

        Raises:
            PermissionDenied: ``installation_wide`` takes an administrator.
        """
        request = CreateMcpServerRequest(
            name=name, url=url, headers=dict(headers or {}), installation_wide=installation_wide
        )
        return await self._transport.call(McpServerService.CREATE_MCP_SERVER, request, idempotency_key=idempotency_key)

    async def delete(self, server_id: str) -> None:
        """Delete a server; agents that name it go on without its tools."""
        await self._transport.call(McpServerService.DELETE_MCP_SERVER, DeleteMcpServerRequest(id=server_id))
