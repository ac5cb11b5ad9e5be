# Written by tools/gen_sdk.py from ../../aio/capabilities.py: change that one.
"""The catalogue of capabilities, and MCP servers as capabilities."""

from __future__ import annotations

from collections.abc import Mapping

from codeyard_client._channel import SyncStream
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
from codeyard_client.gen.sync.transport import Transport


class Capabilities:
    """What agents of a yard can do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> SyncStream[Capability]:
        """Yield the catalogue, in its order."""
        catalogue = self._transport.call(CapabilityService.LIST_CAPABILITIES, ListCapabilitiesRequest())
        for capability in catalogue.items:
            yield capability

    def get(self, capability_id: str) -> Capability:
        """Return one capability.

        Raises:
            NotFound: there is none.
        """
        request = GetCapabilityRequest(capability_id=capability_id)
        return self._transport.call(CapabilityService.GET_CAPABILITY, request)


class McpServers:
    """Servers that offer tools over the Model Context Protocol; each is the capability ``mcp:<name>``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, page_size: int = 100) -> SyncStream[McpServer]:
        """Yield one's own servers and those of the whole yard, by name."""
        offset = 0
        while True:
            request = ListMcpServersRequest(limit=page_size, offset=offset)
            page = self._transport.call(McpServerService.LIST_MCP_SERVERS, request)
            for server in page.items:
                yield server
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    def get(self, server_id: str) -> McpServer:
        """Return one server.

        Raises:
            NotFound: there is none.
        """
        return self._transport.call(McpServerService.GET_MCP_SERVER, GetMcpServerRequest(id=server_id))

    def create(
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
        return self._transport.call(McpServerService.CREATE_MCP_SERVER, request, idempotency_key=idempotency_key)

    def delete(self, server_id: str) -> None:
        """Delete a server; agents that name it go on without its tools."""
        self._transport.call(McpServerService.DELETE_MCP_SERVER, DeleteMcpServerRequest(id=server_id))
