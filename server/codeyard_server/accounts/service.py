"""Who calls: API keys, or nobody in particular where the installation asks for no credential."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from codeyard_server.accounts import logic, store
from codeyard_server.core import errors
from codeyard_server.core.caller import Caller
from codeyard_server.core.database import Database
from codeyard_server.core.ids import new_id
from codeyard_server.core.scope import Role, Scope

ADMIN_EMAIL = "admin@local"
BOOTSTRAP_KEY = "bootstrap"
ANONYMOUS = uuid.UUID(int=0)


class ApiKeyAuthenticator:
    """Asks the database on every call, so that a revoked key is refused at once everywhere."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """See core.caller.Authenticator."""
        key = logic.presented_key(metadata)
        async with self._database.connection() as tx:
            row = await store.caller_of_key(tx, logic.hash_key(key))
            if row is None:
                raise errors.Unauthenticated("The credential is not valid", headers={"www-authenticate": "Bearer"})
            if row["use_is_old"]:
                await store.touch_key(tx, Scope.system("accounts.key-use"), row["id"])
        return Caller(
            user_id=row["user_id"],
            email=row["email"],
            name=row["name"],
            roles=frozenset(Role(role) for role in row["roles"]),
            kind="api_key",
            scopes=frozenset(row["scopes"]),
        )


class AnonymousAuthenticator:
    """AUTH_MODE=none: every caller is the fixed anonymous administrator. For loopback only; the settings see to it."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """See core.caller.Authenticator."""
        return Caller(
            user_id=ANONYMOUS,
            email="anonymous@local",
            name="Anonymous",
            roles=frozenset({Role.ADMIN}),
            kind="none",
            scopes=frozenset({"*"}),
        )


async def ensure_administrator(database: Database, key: str) -> None:
    """Create the local administrator, and make the key his only bootstrap key. Safe to call from many processes."""
    scope = Scope.system("accounts.bootstrap")
    async with database.transaction() as tx:
        user_id = await store.upsert_user(tx, scope, new_id(), ADMIN_EMAIL, "Administrator", [Role.ADMIN])
        await store.replace_named_key(
            tx, scope, new_id(), user_id, BOOTSTRAP_KEY, logic.hash_key(key), logic.display_prefix(key)
        )
