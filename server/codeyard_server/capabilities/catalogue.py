"""The catalogue: the built-in capabilities in their fixed order, then the MCP servers that a caller may use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from codeyard_server.capabilities import logic
from codeyard_server.capabilities.definition import Capability
from codeyard_server.capabilities.logic import ResolvedCapabilities
from codeyard_server.core import errors
from codeyard_server.core.scope import Scope

# Inside the classes below, list is a method.
Ids = list[str]


class Servers(Protocol):
    """The MCP servers as capabilities."""

    async def list(self, scope: Scope) -> Sequence[Capability]:
        """Return those the caller may use, in catalogue order, without prompt and tools: no server is asked."""
        ...

    async def load(self, scope: Scope, capability_id: str) -> Capability | None:
        """Return one with its prompt and tools; not available when its server cannot be reached; None: no such one."""
        ...


class Catalogue:
    """What agents can be given.

    Args:
        builtin: the built-in capabilities, in order.
        servers: the MCP servers; None where there are none, as in tests.

    Raises:
        ValueError: two built-in ones share an id or an alias.
    """

    def __init__(self, builtin: Iterable[Capability], servers: Servers | None = None) -> None:
        self._builtin = tuple(builtin)
        self._index = logic.index(self._builtin)
        self._servers = servers

    def canonical(self, capability_id: str) -> str:
        """Return the id that an alias stands for; any other text is returned as it is."""
        capability = self._index.get(capability_id)
        return capability.id if capability else capability_id

    async def list(self, scope: Scope) -> Sequence[Capability]:
        """Return all, in catalogue order. MCP servers come without their tools."""
        servers = await self._servers.list(scope) if self._servers else ()
        return (*self._builtin, *servers)

    async def get(self, scope: Scope, capability_id: str) -> Capability:
        """Return the capability of an id or alias, with its tools.

        Raises:
            NotFound: there is none.
        """
        capability = await self._load(scope, capability_id)
        if capability is None:
            raise errors.NotFound("Capability not found")
        return capability

    async def validate(self, scope: Scope, capability_ids: Iterable[str]) -> Ids:
        """Return the ids with aliases replaced, in the same order.

        Raises:
            CapabilityInvalid: one is unknown, or two are the same.
        """
        wanted = tuple(capability_ids)
        known = {name: capability.id for name, capability in self._index.items()}
        if self._servers is not None and any(capability_id not in known for capability_id in wanted):
            known |= {server.id: server.id for server in await self._servers.list(scope)}
        return logic.validate(wanted, known)

    async def resolve(self, scope: Scope, capability_ids: Iterable[str]) -> ResolvedCapabilities:
        """Return what these capabilities give a turn; what is unknown or not available is passed over."""
        wanted = dict.fromkeys(map(self.canonical, capability_ids))
        found = await asyncio.gather(*(self._load(scope, capability_id) for capability_id in wanted))
        return logic.combine(capability for capability in found if capability is not None)

    async def _load(self, scope: Scope, capability_id: str) -> Capability | None:
        builtin = self._index.get(capability_id)
        if builtin is not None or self._servers is None:
            return builtin
        return await self._servers.load(scope, capability_id)
