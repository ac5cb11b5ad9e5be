"""Which driver a provider gets, and how the pool lends drivers."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from codeyard_server.adapters.model_drivers import DriverPool, make_driver
from codeyard_server.models.ports import GenerationRequest, ModelError, ProviderConfig, Reply, TextDelta

from tests.unit.driver_wire import Wire, openai_events, run

pytestmark = pytest.mark.quick

SIMULATOR = ProviderConfig("llmsim", None, None)
FIRST, SECOND, THIRD = (uuid.UUID(int=number) for number in (1, 2, 3))


class _Driver:
    """Tells whether it was closed, and in which thread it was made."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self.closed = 0
        self.thread = threading.get_ident()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | Reply]:
        """Reply at once."""
        yield Reply(request.model)

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


class _Maker:
    """Makes drivers and keeps them."""

    def __init__(self) -> None:
        self.made: list[_Driver] = []

    def __call__(self, config: ProviderConfig) -> _Driver:
        self.made.append(_Driver(config))
        return self.made[-1]


@pytest.mark.parametrize(
    ("provider_type", "name"),
    [
        ("openai", "OpenAIDriver"),
        ("azure_openai", "OpenAIDriver"),
        ("ollama", "OpenAIDriver"),
        ("custom", "OpenAIDriver"),
        ("anthropic", "AnthropicDriver"),
        ("llmsim", "LlmSimDriver"),
    ],
)
async def test_make_driver_picks_the_driver_by_type(provider_type: Any, name: str) -> None:
    """Every type has its driver."""
    driver = make_driver(ProviderConfig(provider_type, "http://models.example", "k"))
    assert type(driver).__name__ == name
    await driver.aclose()


@pytest.mark.parametrize("provider_type", ["openai", "anthropic"])
async def test_make_driver_dials_through_the_transport_it_is_given(provider_type: Any) -> None:
    """Whoever guards outbound calls can stand below the SDK."""
    wire = Wire(refusal=httpx2.ConnectError("guarded"))
    driver = make_driver(ProviderConfig(provider_type, None, "k"), transport=wire)
    with pytest.raises(ModelError, match="guarded"):
        await run(driver, GenerationRequest("m", "", ()))


def test_importing_the_module_loads_no_sdk() -> None:
    """A server that only simulates does not pay for the SDKs, and none pays at its start."""
    code = (
        "import sys, codeyard_server.adapters.model_drivers;"
        "print(sorted({'openai', 'anthropic', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_lease_lends_the_same_driver_while_the_configuration_stays() -> None:
    """Connections are kept between calls; the driver is made off the event loop."""
    maker = _Maker()
    pool = DriverPool(maker)
    for _ in range(3):
        async with pool.lease(FIRST, dataclasses.replace(SIMULATOR)) as driver:
            assert driver is maker.made[0]
    assert len(maker.made) == 1
    assert maker.made[0].thread != threading.get_ident()
    assert maker.made[0].closed == 0
    await pool.aclose()
    assert maker.made[0].closed == 1


@pytest.mark.parametrize(
    "change", [{"api_key": "other"}, {"base_url": "http://b"}, {"provider_type": "custom"}, {"timeout_seconds": 1.0}]
)
async def test_lease_makes_a_new_driver_when_the_configuration_changed(change: dict[str, Any]) -> None:
    """A new key counts at once; calls that run keep the old driver, which is closed with the last of them."""
    maker = _Maker()
    pool = DriverPool(maker)
    async with pool.lease(FIRST, SIMULATOR) as old:
        async with pool.lease(FIRST, dataclasses.replace(SIMULATOR, **change)) as new:
            assert new is not old
        assert maker.made[0].closed == 0
    assert [driver.closed for driver in maker.made] == [1, 0]
    await pool.aclose()


async def test_lease_makes_one_driver_when_many_calls_start_at_once() -> None:
    """Nobody makes a second one while the first is being made."""
    maker = _Maker()
    pool = DriverPool(maker)

    async def use() -> None:
        async with pool.lease(FIRST, SIMULATOR):
            await asyncio.sleep(0)

    await asyncio.gather(*(use() for _ in range(20)))
    assert len(maker.made) == 1
    await pool.aclose()


async def test_lease_waits_when_the_provider_is_at_its_limit() -> None:
    """The limit is per provider: others are not held up."""
    pool = DriverPool(_Maker(), concurrency=2)
    entered = asyncio.Event()

    async def third() -> None:
        async with pool.lease(FIRST, SIMULATOR):
            entered.set()

    async with pool.lease(FIRST, SIMULATOR):
        async with pool.lease(FIRST, SIMULATOR):
            waiting = asyncio.create_task(third())
            async with pool.lease(SECOND, SIMULATOR):
                assert not entered.is_set()
        await waiting
    assert entered.is_set()
    await pool.aclose()


async def test_lease_is_given_back_when_the_call_fails_or_is_cancelled() -> None:
    """Neither an error nor a cancelled turn takes a place for good."""
    pool = DriverPool(_Maker(), concurrency=1)
    with pytest.raises(ModelError):
        async with pool.lease(FIRST, SIMULATOR):
            raise ModelError("no", retryable=True)
    started = asyncio.Event()

    async def hang() -> None:
        async with pool.lease(FIRST, SIMULATOR):
            started.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await started.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    async with pool.lease(FIRST, SIMULATOR) as driver:
        assert driver
    await pool.aclose()


async def test_lease_raises_when_the_driver_cannot_be_made_and_recovers() -> None:
    """A provider without a key fails each call, until it has one."""
    pool = DriverPool(concurrency=1)
    config = ProviderConfig("openai", None, None)
    for _ in range(2):
        with pytest.raises(ModelError, match="no API key"):
            async with pool.lease(FIRST, config):
                raise AssertionError("unreachable")
    async with pool.lease(FIRST, dataclasses.replace(config, api_key="k")) as driver:
        assert driver
    await pool.aclose()


async def test_the_provider_unused_for_longest_is_dropped_when_there_are_too_many() -> None:
    """Deleted providers do not keep connections open for ever; one in use is never dropped."""
    maker = _Maker()
    pool = DriverPool(maker, capacity=1)
    async with pool.lease(FIRST, SIMULATOR):
        async with pool.lease(SECOND, SIMULATOR):
            pass
        assert [driver.closed for driver in maker.made] == [0, 1]
    async with pool.lease(THIRD, SIMULATOR):
        pass
    assert [driver.closed for driver in maker.made] == [1, 1, 0]
    await pool.aclose()


async def test_a_pooled_driver_serves_calls_side_by_side() -> None:
    """One HTTP client carries several streams."""
    wire = Wire(
        openai_events({"id": "r", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]})
    )
    pool = DriverPool(lambda config: make_driver(config, transport=wire))
    config = ProviderConfig("openai", None, "k")

    async def call() -> str:
        async with pool.lease(FIRST, config) as driver:
            items = [item async for item in driver.generate(GenerationRequest("m", "", ()))]
            return items[-1].text

    assert await asyncio.gather(*(call() for _ in range(10))) == ["Hi"] * 10
    await pool.aclose()
