"""Who calls, as the credential says."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Protocol

from codeyard_server.core import errors
from codeyard_server.core.permission import ADMIN_ONLY, Permission
from codeyard_server.core.scope import Role, Scope


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """A caller with a valid credential.

    ``kind`` is the token's kind ("api_key", "none" …); ``sid`` names the sign-in a session token belongs to, so that
    an ended one can be refused; ``scopes`` are permission words, "*" for all.
    """

    user_id: uuid.UUID
    email: str
    name: str
    roles: frozenset[Role]
    kind: str
    scopes: frozenset[str]
    sid: uuid.UUID | None = None

    def scope(self, permission: Permission) -> Scope:
        """Return the scope in which the caller may use the permission.

        Raises:
            PermissionDenied: the credential's scopes leave it out, or it takes an administrator.
        """
        if "*" not in self.scopes and permission not in self.scopes:
            raise errors.PermissionDenied(f"The credential lacks the scope {permission}")
        if permission in ADMIN_ONLY and Role.ADMIN not in self.roles:
            raise errors.PermissionDenied("Only an administrator may do this")
        return Scope(user_id=self.user_id, roles=self.roles)


class Authenticator(Protocol):
    """Turns request metadata into a caller."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """Return the caller.

        Raises:
            Unauthenticated: no credential, or none that is valid.
        """
        ...
