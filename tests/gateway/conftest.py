"""One gateway for all tests that do not break it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.gateway.gateway import Gateway


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway with two backends that allows the pages of https://app.example.com. Fails if Envoy logged anything."""
    with Gateway(allowed_origins=("https://app.example.com",), allowed_hosts=("yard.example.com",)) as running:
        yield running
        log = running.log
    assert log == "", f"Envoy logged:\n{log}"


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP/1.1 client whose paths are relative to the gateway."""
    async with aiohttp.ClientSession(gateway.url, auto_decompress=False) as session:
        yield session
