"""Statements of accounts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import asyncpg

from codeyard_server.core.database import Transaction
from codeyard_server.core.queries import Queries
from codeyard_server.core.scope import Scope

sql = Queries.beside(__file__)


async def caller_of_key(tx: Transaction, sha256: bytes) -> asyncpg.Record | None:
    """Return key and user of a key that is valid now. (It makes a scope, so it takes none.)"""
    return await tx.row(sql.caller_of_key, sha256)


async def touch_key(tx: Transaction, scope: Scope, key_id: uuid.UUID) -> None:
    """Record that a key was used; the caller sees to it that this happens at most once a minute."""
    await tx.execute(sql.touch_key, key_id)


async def upsert_user(
    tx: Transaction, scope: Scope, user_id: uuid.UUID, email: str, name: str, roles: Sequence[str]
) -> uuid.UUID:
    """Create a user or give an existing one the roles; return his id."""
    return uuid.UUID(str(await tx.value(sql.upsert_user, user_id, email, name, list(roles))))


async def replace_named_key(
    tx: Transaction, scope: Scope, key_id: uuid.UUID, user_id: uuid.UUID, name: str, sha256: bytes, prefix: str
) -> None:
    """Make this the user's only valid key of this name."""
    await tx.execute(sql.revoke_other_keys, user_id, name, sha256)
    await tx.execute(sql.insert_key, key_id, user_id, name, sha256, prefix, ["*"])
