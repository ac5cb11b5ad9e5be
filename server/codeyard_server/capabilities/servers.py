"""MCP servers as capabilities: those of the administrator's file and those that are stored."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from codeyard_server.capabilities import logic, store
from codeyard_server.capabilities.definition import Capability, RemoteTool
from codeyard_server.capabilities.ports import McpClient, McpServer, McpTool, ToolContext, ToolError
from codeyard_server.core.database import Database
from codeyard_server.core.scope import Scope
from codeyard_server.vault import Vault

_CALL_SECONDS = 90.0
"""Longest call of a tool: the client's own limits for opening a connection and for the call, and some room."""


class HeaderSecrets:
    """Seals and opens the headers of stored servers."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, server_id: uuid.UUID, headers: Mapping[str, str]) -> bytes | None:
        """Return the headers as they are stored; None where there are none.

        Raises:
            VaultNotConfigured: there is no master key.
        """
        if not headers:
            return None
        return self._vault.seal(json.dumps(dict(headers)).encode(), aad=_place(server_id))

    def open(self, server_id: uuid.UUID, sealed: bytes | None) -> Mapping[str, str]:
        """Return the stored headers.

        Raises:
            SealedValueInvalid: they cannot be opened.
        """
        if sealed is None:
            return {}
        headers: dict[str, str] = json.loads(self._vault.open(sealed, aad=_place(server_id)))
        return headers


class McpServers:
    """Implements catalogue.Servers.

    Args:
        configured: the servers of the administrator's file; a stored one of the same name is hidden by it.
        client: talks to servers.
    """

    def __init__(
        self, database: Database, secrets: HeaderSecrets, client: McpClient, configured: Sequence[McpServer] = ()
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._client = client
        self._configured = {server.name: server for server in configured}

    def is_configured(self, name: str) -> bool:
        """Whether the administrator's file has a server of this name."""
        return name in self._configured

    async def list(self, scope: Scope) -> Sequence[Capability]:
        """Return the servers the caller may use; see catalogue.Servers.list."""
        async with self._database.connection() as tx:
            stored = await store.server_names(tx, scope)
        names = [*self._configured, *(name for name in stored if name not in self._configured)]
        return [_capability(name) for name in names]

    async def load(self, scope: Scope, capability_id: str) -> Capability | None:
        """Return a server with its tools; see catalogue.Servers.load."""
        if not capability_id.startswith(logic.MCP_PREFIX):
            return None
        name = capability_id.removeprefix(logic.MCP_PREFIX)
        server = self._configured.get(name) or await self._stored(scope, name)
        if server is None:
            return None
        try:
            tools = await self._client.tools(server)
        except ToolError as error:
            # The model is told, so that it can tell the user instead of wondering where its tools are.
            return _capability(name, prompt=f"{error}. Its tools are missing for now.")
        return _capability(name, tools=tuple(_tool(self._client, server, tool) for tool in tools))

    async def _stored(self, scope: Scope, name: str) -> McpServer | None:
        async with self._database.connection() as tx:
            row = await store.find_server(tx, scope, name)
        if row is None:
            return None
        headers = self._secrets.open(row.id, row.sealed_headers)
        return McpServer(key=f"stored/{row.id}", name=name, url=row.url, headers=headers)


def _tool(client: McpClient, server: McpServer, tool: McpTool) -> RemoteTool:
    async def handler(arguments: Mapping[str, Any], _context: ToolContext) -> Any:
        return await client.call(server, tool, arguments)

    return RemoteTool(
        name=logic.tool_name(server.name, tool.name),
        description=tool.description,
        parameters=tool.parameters,
        handler=handler,
        read_only=tool.read_only,
        timeout_seconds=_CALL_SECONDS,
    )


def _capability(name: str, *, prompt: str | None = None, tools: tuple[RemoteTool, ...] = ()) -> Capability:
    return Capability(
        id=f"{logic.MCP_PREFIX}{name}",
        name=name,
        description=f"The tools of the MCP server {name}.",
        icon="plug",
        category="MCP",
        prompt=prompt,
        tools=tools,
        tool_type="mcp",
    )


def _place(server_id: uuid.UUID) -> bytes:
    return f"mcp_servers/{server_id}/headers".encode()
