"""Fixtures of the steel-thread tests: real clients of one running yard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.client import Rest, rest
from tests.support.grpc_client import Grpc, native
from tests.support.yard import Yard


@pytest.fixture(scope="module")
def no_faults(yard: Yard) -> Iterator[None]:
    """After the whole module, no server of the yard may have logged an error: whatever came, it was no fault."""
    sizes = {log: log.stat().st_size for log in yard.data.glob("log/server-*.log")}
    yield
    for log, size in sizes.items():
        with log.open("rb") as file:
            file.seek(size)
            faults = [line for line in file.read().splitlines() if b'"level": "error"' in line]
        assert faults == []


@pytest.fixture
async def client(yard: Yard) -> AsyncIterator[Rest]:
    """The administrator's REST client."""
    async with rest(yard) as client:
        yield client


@pytest.fixture
async def grpc(yard: Yard) -> AsyncIterator[Grpc]:
    """The administrator's native gRPC client."""
    async with native(yard) as grpc:
        yield grpc
