"""RPCs of capabilities and of MCP servers."""

from __future__ import annotations

import uuid

from codeyard.capabilities.v1 import capability_pb2, mcp_server_pb2
from codeyard.capabilities.v1 import capability_service_pb2 as capability_api
from codeyard.capabilities.v1 import mcp_server_service_pb2 as server_api
from google.protobuf.empty_pb2 import Empty

from codeyard_server.capabilities import logic, store
from codeyard_server.capabilities.catalogue import Catalogue
from codeyard_server.capabilities.definition import Capability
from codeyard_server.capabilities.servers import HeaderSecrets, McpServers
from codeyard_server.core import errors
from codeyard_server.core.call import Call
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database
from codeyard_server.core.lists import envelope
from codeyard_server.core.paging import DEFAULT_LIMIT
from codeyard_server.core.permission import Permission


class CapabilityService:
    """The catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def list_capabilities(
        self, _request: capability_api.ListCapabilitiesRequest, call: Call
    ) -> capability_api.ListCapabilitiesResponse:
        scope = call.require(Permission.CAPABILITY_READ)
        items = [_capability(capability) for capability in await self._catalogue.list(scope)]
        response: capability_api.ListCapabilitiesResponse = envelope(
            call, capability_api.ListCapabilitiesResponse(items=items, total=len(items))
        )
        return response

    async def get_capability(
        self, request: capability_api.GetCapabilityRequest, call: Call
    ) -> capability_pb2.Capability:
        scope = call.require(Permission.CAPABILITY_READ)
        return _capability(await self._catalogue.get(scope, request.capability_id))


class McpServerService:
    """MCP servers as capabilities."""

    def __init__(self, database: Database, servers: McpServers, secrets: HeaderSecrets, clock: Clock) -> None:
        self._database = database
        self._servers = servers
        self._secrets = secrets
        self._clock = clock

    async def create_mcp_server(
        self, request: server_api.CreateMcpServerRequest, call: Call
    ) -> mcp_server_pb2.McpServer:
        scope = call.require(Permission.CAPABILITY_WRITE)
        if request.installation_wide and not scope.is_admin:
            raise errors.PermissionDenied("Only an administrator may add a server for everybody")
        draft = logic.draft_server(request, scope.user_id, self._clock())
        if self._servers.is_configured(draft.name):
            raise errors.AlreadyExists("An MCP server of this name exists")
        sealed = self._secrets.seal(draft.id, draft.headers)
        async with self._database.transaction() as tx:
            server = await store.insert_server(tx, scope, draft, sealed)
            await call.remember(tx, server)
        return server

    async def list_mcp_servers(
        self, request: server_api.ListMcpServersRequest, call: Call
    ) -> server_api.ListMcpServersResponse:
        scope = call.require(Permission.CAPABILITY_READ)
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        async with self._database.connection() as tx:
            items = await store.list_servers(tx, scope, limit=limit, offset=request.offset)
            total = await store.count_servers(tx, scope)
        response: server_api.ListMcpServersResponse = envelope(
            call, server_api.ListMcpServersResponse(items=items, total=total)
        )
        return response

    async def get_mcp_server(self, request: server_api.GetMcpServerRequest, call: Call) -> mcp_server_pb2.McpServer:
        scope = call.require(Permission.CAPABILITY_READ)
        async with self._database.connection() as tx:
            return await store.get_server(tx, scope, uuid.UUID(request.id))

    async def delete_mcp_server(self, request: server_api.DeleteMcpServerRequest, call: Call) -> Empty:
        scope = call.require(Permission.CAPABILITY_WRITE)
        async with self._database.transaction() as tx:
            server = await store.get_server(tx, scope, uuid.UUID(request.id))
            if server.installation_wide and not scope.is_admin:
                raise errors.PermissionDenied("Only an administrator may delete a server of the installation")
            await store.delete_server(tx, scope, uuid.UUID(request.id))
        return Empty()


def _capability(capability: Capability) -> capability_pb2.Capability:
    message = capability_pb2.Capability(
        id=capability.id,
        name=capability.name,
        description=capability.description,
        status=capability.status,
        icon=capability.icon,
        category=capability.category,
        system_prompt=capability.prompt,
    )
    for tool in capability.tools:
        definition = message.tool_definitions.add(
            type=capability.tool_type, name=tool.name, description=tool.description, policy=tool.policy
        )
        definition.parameters.update(tool.parameters)
    return message
