"""Fixtures of the steel-thread tests: real clients of one running yard."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.client import Rest, rest
from tests.support.grpc_client import Grpc, native
from tests.support.yard import Yard


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
