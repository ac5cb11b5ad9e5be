"""Statements of MCP servers."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

import asyncpg
from codeyard.capabilities.v1 import mcp_server_pb2 as pb

from codeyard_server.capabilities.logic import MCP_PREFIX, McpServerDraft
from codeyard_server.core import errors
from codeyard_server.core.database import Transaction
from codeyard_server.core.queries import Queries
from codeyard_server.core.scope import Scope

sql = Queries.beside(__file__)


@dataclasses.dataclass(frozen=True, slots=True)
class StoredServer:
    """What a connection to a server is made from."""

    id: uuid.UUID
    url: str
    sealed_headers: bytes | None = dataclasses.field(repr=False)


def _server(row: asyncpg.Record) -> pb.McpServer:
    return pb.McpServer(
        id=str(row["id"]),
        name=row["name"],
        url=row["url"],
        header_names=row["header_names"],
        installation_wide=row["owner_id"] is None,
        capability_id=f"{MCP_PREFIX}{row['name']}",
        created_at=row["created_at"],
    )


async def insert_server(
    tx: Transaction, scope: Scope, draft: McpServerDraft, sealed_headers: bytes | None
) -> pb.McpServer:
    """Store a new server.

    Raises:
        AlreadyExists: the name is taken, by whomever.
    """
    row = await tx.row(
        sql.insert_server,
        draft.id,
        draft.owner_id,
        draft.name,
        draft.url,
        sorted(draft.headers),
        sealed_headers,
        draft.now,
    )
    if row is None:
        raise errors.AlreadyExists("An MCP server of this name exists")
    return _server(row)


async def get_server(tx: Transaction, scope: Scope, server_id: uuid.UUID) -> pb.McpServer:
    """Return a server the caller may see.

    Raises:
        NotFound: there is none.
    """
    row = await tx.row(sql.get_server, server_id, scope.user_id)
    if row is None:
        raise errors.NotFound("MCP server not found")
    return _server(row)


async def find_server(tx: Transaction, scope: Scope, name: str) -> StoredServer | None:
    """Return the server of a name that the caller may use, or None."""
    row = await tx.row(sql.find_server, name, scope.user_id)
    return None if row is None else StoredServer(row["id"], row["url"], row["headers"])


async def list_servers(tx: Transaction, scope: Scope, *, limit: int, offset: int) -> Sequence[pb.McpServer]:
    """Return the servers the caller may see, by name."""
    return [_server(row) for row in await tx.fetch(sql.list_servers, scope.user_id, limit, offset)]


async def count_servers(tx: Transaction, scope: Scope) -> int:
    """Return how many servers the caller may see."""
    return int(await tx.value(sql.count_servers, scope.user_id))


async def server_names(tx: Transaction, scope: Scope) -> Sequence[str]:
    """Return the names of the servers the caller may see, in order."""
    return [row["name"] for row in await tx.fetch(sql.server_names, scope.user_id)]


async def delete_server(tx: Transaction, scope: Scope, server_id: uuid.UUID) -> None:
    """Delete a server the caller may see; who may delete one of the installation is the service's to check.

    Raises:
        NotFound: there is none.
    """
    if await tx.value(sql.delete_server, server_id, scope.user_id) is None:
        raise errors.NotFound("MCP server not found")
