"""Further users and keys of a running yard, put into its own database: no route makes them yet."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
from codeyard_server.accounts import hash_key, new_key

from tests.support.yard import Yard

_PASSWORD = re.compile(r'^CODEYARD_DB_PASSWORD="([0-9a-f]+)"$', re.MULTILINE)


def database_url(yard: Yard) -> str:
    """Return the address of the yard's database: the embedded one's, unless it was started on another."""
    if url := yard.environment.get("DATABASE_URL"):
        return url
    found = _PASSWORD.search((yard.data / "secrets.env").read_text(encoding="utf-8"))
    assert found is not None
    return f"postgresql://codeyard:{found[1]}@/codeyard?host={yard.data}/postgres"


@contextlib.asynccontextmanager
async def database(yard: Yard) -> AsyncIterator[Any]:
    """Open a connection to the yard's database."""
    connection = await asyncpg.connect(database_url(yard))
    try:
        yield connection
    finally:
        await connection.close()


async def dump(yard: Yard) -> str:
    """Return every row of the yard's database as text; bytes are in hex."""
    async with database(yard) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        queries = [f'SELECT t::text FROM "{table[0]}" AS t' for table in tables]  # noqa: S608 - from the catalogue
        rows = [await connection.fetch(query) for query in queries]
    return "\n".join(row[0] for found in rows for row in found)


async def add_user(yard: Yard, *roles: str) -> uuid.UUID:
    """Create a user and return his id."""
    user_id = uuid.uuid4()
    async with database(yard) as connection:
        await connection.execute(
            "INSERT INTO users (id, email, name, roles) VALUES ($1, $2, 'Test', $3)",
            user_id,
            f"{user_id}@example.com",
            list(roles),
        )
    return user_id


async def add_key(
    yard: Yard,
    user_id: uuid.UUID,
    scopes: Sequence[str] = ("*",),
    *,
    revoked: bool = False,
    expired: bool = False,
) -> Yard:
    """Give a user a key, and return the yard as its holder sees it."""
    key, now = new_key(), datetime.datetime.now(datetime.UTC)
    async with database(yard) as connection:
        await connection.execute(
            "INSERT INTO api_keys (id, user_id, name, sha256, prefix, scopes, expires_at, revoked_at)"
            " VALUES ($1, $2, 'test', $3, '', $4, $5, $6)",
            uuid.uuid4(),
            user_id,
            hash_key(key),
            list(scopes),
            now - datetime.timedelta(seconds=1) if expired else None,
            now if revoked else None,
        )
    return dataclasses.replace(yard, token=key)
