"""Statements of session files."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence

import asyncpg

from codeyard_server.capabilities.ports import FileInfo, ToolError
from codeyard_server.core.database import Transaction
from codeyard_server.core.ids import new_id
from codeyard_server.core.queries import Queries
from codeyard_server.core.scope import Scope

sql = Queries.beside(__file__)


def _info(row: asyncpg.Record) -> FileInfo:
    return FileInfo(
        path=row["path"],
        is_directory=row["is_directory"],
        is_readonly=row["is_readonly"],
        size_bytes=row["size"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def lock_files(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> None:
    """Wait for other writers of the session's files, and keep them out until the transaction ends.

    Raises:
        ToolError: there is no such session.
    """
    if await tx.value(sql.lock_session_files, session_id) is None:
        raise ToolError("The session does not exist any more")


async def entries(tx: Transaction, scope: Scope, session_id: uuid.UUID, paths: Sequence[str]) -> Mapping[str, FileInfo]:
    """Return those of these paths that exist."""
    return {row["path"]: _info(row) for row in await tx.fetch(sql.file_entries, session_id, list(paths))}


async def with_content(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, path: str
) -> tuple[FileInfo, bytes] | None:
    """Return a path with its content, which a directory has none of, or None."""
    row = await tx.row(sql.file_with_content, session_id, path)
    return None if row is None else (_info(row), bytes(row["content"]))


async def directory(tx: Transaction, scope: Scope, session_id: uuid.UUID, prefix: str) -> Sequence[FileInfo]:
    """Return what stands directly under a prefix that ends in "/": directories first, then by path."""
    return [_info(row) for row in await tx.fetch(sql.directory_entries, session_id, prefix)]


async def usage(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> tuple[int, int]:
    """Return how many entries and how many bytes the session has."""
    (row,) = await tx.fetch(sql.file_usage, session_id)
    return row["entries"], row["bytes"]


async def insert_directories(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, paths: Sequence[str], now: datetime.datetime
) -> None:
    """Store directories that do not exist."""
    if paths:
        await tx.execute(sql.insert_directories, session_id, list(paths), [new_id() for _ in paths], now)


async def upsert_file(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, path: str, content: bytes, now: datetime.datetime
) -> FileInfo:
    """Store a file, or replace its content."""
    (row,) = await tx.fetch(sql.upsert_file, session_id, path, new_id(), content, now)
    return _info(row)


async def has_entries(tx: Transaction, scope: Scope, session_id: uuid.UUID, path: str) -> bool:
    """Return whether a directory holds anything."""
    return bool(await tx.value(sql.directory_has_entries, session_id, path))


async def delete_tree(tx: Transaction, scope: Scope, session_id: uuid.UUID, path: str) -> None:
    """Delete a path with all that is under it."""
    await tx.execute(sql.delete_tree, session_id, path)


async def sizes(tx: Transaction, scope: Scope, session_id: uuid.UUID) -> Mapping[str, int]:
    """Return all files with their sizes in bytes, by path."""
    return {row["path"]: row["size"] for row in await tx.fetch(sql.file_sizes, session_id)}


async def contents(
    tx: Transaction, scope: Scope, session_id: uuid.UUID, paths: Sequence[str]
) -> Sequence[tuple[str, bytes]]:
    """Return these files with their contents, by path."""
    return [(row["path"], bytes(row["content"])) for row in await tx.fetch(sql.file_contents, session_id, list(paths))]
