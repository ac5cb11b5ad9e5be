"""Makes the driver for a provider, and keeps drivers: a pool of connections each, and a limit of calls at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, assert_never
from uuid import UUID

from codeyard_server.models.ports import ModelDriver, ProviderConfig

if TYPE_CHECKING:
    import httpx2

DEFAULT_CONCURRENCY = 32
"""Calls of one provider at a time, in one process."""
DEFAULT_CAPACITY = 64
"""Providers whose drivers are kept, in one process."""


def make_driver(config: ProviderConfig, *, transport: httpx2.AsyncBaseTransport | None = None) -> ModelDriver:
    """Return a driver for the provider.

    The first one of a vendor loads its SDK, which takes a second or more: do not call this on an event loop.

    Args:
        config: of the provider.
        transport: dials in place of the HTTP client's own, for this driver only; closed with it. Not for the simulator.

    Raises:
        ModelError: the configuration cannot be used: no key where one is needed, or a base URL that is none.
    """
    match config.provider_type:
        case "llmsim":
            from codeyard_server.adapters.llmsim_driver import LlmSimDriver

            return LlmSimDriver()
        case "anthropic":
            from codeyard_server.adapters.anthropic_driver import AnthropicDriver

            return AnthropicDriver(config, transport=transport)
        case "openai" | "azure_openai" | "ollama" | "custom":
            from codeyard_server.adapters.openai_driver import OpenAIDriver

            return OpenAIDriver(config, transport=transport)
        case _:
            assert_never(config.provider_type)


@dataclasses.dataclass(slots=True)
class _Entry:
    """A driver and the calls that use it."""

    config: ProviderConfig
    driver: ModelDriver
    leases: int = 0
    retired: bool = False


class _Slot:
    """What is kept of one provider."""

    def __init__(self, concurrency: int) -> None:
        self.semaphore = asyncio.Semaphore(concurrency)
        self.making = asyncio.Lock()
        self.users = 0
        """Calls that wait for their turn or run."""
        self.entry: _Entry | None = None


class DriverPool:
    """Lends drivers, one per provider for as long as its configuration stays the same.

    A provider that was changed gets a new driver; the old one is closed when its last call has ended. The provider
    unused for longest is dropped when there are too many. For one event loop.

    Args:
        make: makes a driver; called in a thread.
        concurrency: calls of one provider at a time; further ones wait in order of arrival.
        capacity: how many providers are kept.
    """

    def __init__(
        self,
        make: Callable[[ProviderConfig], ModelDriver] = make_driver,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        capacity: int = DEFAULT_CAPACITY,
    ) -> None:
        self._make = make
        self._concurrency = concurrency
        self._capacity = capacity
        self._slots: OrderedDict[UUID, _Slot] = OrderedDict()

    @contextlib.asynccontextmanager
    async def lease(self, provider_id: UUID, config: ProviderConfig) -> AsyncIterator[ModelDriver]:
        """Lend the provider's driver for one call, once the limit allows it.

        Raises:
            ModelError: the driver cannot be made; see :func:`make_driver`.
        """
        slot = self._slots.get(provider_id)
        if slot is None:
            slot = self._slots[provider_id] = _Slot(self._concurrency)
        self._slots.move_to_end(provider_id)
        slot.users += 1
        try:
            async with slot.semaphore:
                entry = await self._acquire(slot, config)
                try:
                    yield entry.driver
                finally:
                    entry.leases -= 1
                    await _close_if_done(entry)
        finally:
            slot.users -= 1
            await self._evict()

    async def aclose(self) -> None:
        """Close every driver; calls that run are aborted."""
        slots = list(self._slots.values())
        self._slots.clear()
        for slot in slots:
            if slot.entry is not None:
                await slot.entry.driver.aclose()

    async def _acquire(self, slot: _Slot, config: ProviderConfig) -> _Entry:
        """Return the slot's entry for this configuration with one lease more."""
        async with slot.making:
            entry = slot.entry
            if entry is None or entry.config != config:
                replaced = entry
                entry = slot.entry = _Entry(config, await asyncio.to_thread(self._make, config))
                if replaced is not None:
                    replaced.retired = True
                    await _close_if_done(replaced)
            entry.leases += 1
            return entry

    async def _evict(self) -> None:
        while len(self._slots) > self._capacity:
            unused = next((key for key, slot in self._slots.items() if slot.users == 0), None)
            if unused is None:
                return
            entry = self._slots.pop(unused).entry
            if entry is not None:
                await entry.driver.aclose()


async def _close_if_done(entry: _Entry) -> None:
    if entry.retired and entry.leases == 0:
        await entry.driver.aclose()
