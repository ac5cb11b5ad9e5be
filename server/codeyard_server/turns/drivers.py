"""Drivers lent per provider, made from what the models domain has resolved."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol, cast
from uuid import UUID

from codeyard_server.models import ProviderKeys, ResolvedModel
from codeyard_server.models.ports import ModelDriver, ModelError, ProviderConfig
from codeyard_server.vault import SealedValueInvalid


class Pool(Protocol):
    """Keeps drivers, one per provider and configuration."""

    def lease(self, provider_id: UUID, config: ProviderConfig) -> contextlib.AbstractAsyncContextManager[ModelDriver]:
        """Lend the provider's driver for one call, once its limit of concurrent calls allows it."""
        ...


class ProviderDrivers:
    """Opens a provider's key and lends its driver; see ports.Drivers."""

    def __init__(self, pool: Pool, keys: ProviderKeys) -> None:
        self._pool = pool
        self._keys = keys

    @contextlib.asynccontextmanager
    async def lend(self, model: ResolvedModel) -> AsyncIterator[ModelDriver]:
        """See ports.Drivers."""
        try:
            key = self._keys.open(model.provider_id, model.provider_type, model.sealed_key)
        except SealedValueInvalid as error:
            raise ModelError(f"the provider's key cannot be opened: {error}", retryable=False) from error
        config = ProviderConfig(cast(Any, model.provider_type), model.base_url, key)
        async with self._pool.lease(model.provider_id, config) as driver:
            yield driver
