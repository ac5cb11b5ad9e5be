"""The MCP client, loaded when it is first needed: its SDK takes most of a second, which a restart should not pay."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.capabilities.ports import McpClient, McpServer, McpTool

if TYPE_CHECKING:
    from codeyard_server.adapters.mcp_client import McpConnections


class DeferredMcpClient(McpClient):
    """Implements McpClient by the one in :mod:`codeyard_server.adapters.mcp_client`."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._connections: McpConnections | None = None
        self._loading = asyncio.Lock()

    async def tools(self, server: McpServer) -> Sequence[McpTool]:
        """See McpClient.tools."""
        return await (await self._client()).tools(server)

    async def call(self, server: McpServer, tool: McpTool, arguments: Mapping[str, Any]) -> Any:
        """See McpClient.call."""
        return await (await self._client()).call(server, tool, arguments)

    async def aclose(self) -> None:
        """See McpClient.aclose."""
        if self._connections is not None:
            await self._connections.aclose()

    async def _client(self) -> McpConnections:
        async with self._loading:
            if self._connections is None:
                module = await asyncio.to_thread(_load)
                self._connections = module.McpConnections(self._guard)
        return self._connections


def _load() -> Any:
    from codeyard_server.adapters import mcp_client

    return mcp_client
