"""A reader that takes one byte a second: it costs little, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.bench.figures import resident_kib
from tests.support.client import Rest, rest
from tests.support.yard import Yard, fresh_yard

MESSAGES = 300
MESSAGE_BYTES = 200_000
READERS = 3
PUBLISHERS = 4
ALLOWED_KIB = 32 * 1024
PATIENCE = 240

_SEQUENCE = re.compile(rb'"sequence":(\d+)')


@pytest.fixture(scope="module")
def small_yard() -> Iterator[Yard]:
    """One server process, so that slow and fast readers share it, and one gateway."""
    yield from fresh_yard(processes=1)


async def follow(client: Rest, path: str) -> list[int]:
    """Read a session's stream as fast as it comes, up to its last event; return the sequences in order."""
    found: list[int] = []
    tail = b""
    headers = {"accept": "text/event-stream"}
    async with client.session.get(client.yard.url + path + "/events", headers=headers, timeout=None) as answer:
        async for piece in answer.content.iter_any():
            window = tail + piece
            *complete, tail = window.split(b"\n\n")
            found += [int(match[1]) for frame in complete if (match := _SEQUENCE.search(frame[-200:]))]
            if found and found[-1] == MESSAGES:
                return found
    raise AssertionError(f"the stream ended after {len(found)} events")


async def publish(client: Rest, path: str) -> None:
    """Store 60 MB of messages that no turn answers."""
    left = itertools.repeat({"role": "system", "content": "x" * MESSAGE_BYTES}, MESSAGES)

    async def some() -> None:
        for body in left:
            await client.ok("POST", path + "/messages", body)

    await asyncio.gather(*(some() for _ in range(PUBLISHERS)))


async def publish_and_follow(client: Rest, path: str) -> None:
    """Publish while readers follow; return once each of them has every event once and in order."""
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        readers = [group.create_task(follow(client, path)) for _ in range(READERS)]
        group.create_task(publish(client, path))
    assert all(reader.result() == list(range(1, MESSAGES + 1)) for reader in readers)


class SlowReader:
    """Reads one byte a second of a stream, with the smallest receive buffer the system gives."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._begun = asyncio.Event()

    @contextlib.asynccontextmanager
    async def reading(self, yard: Yard, path: str) -> AsyncIterator[None]:
        """Read beside the block, which begins once the stream has begun; it must not be cut off."""
        task = asyncio.create_task(self._read(yard, path))
        async with asyncio.timeout(PATIENCE):
            await self._begun.wait()
        yield
        assert not task.done(), "the slow reader was cut off"
        task.cancel()

    async def _read(self, yard: Yard, path: str) -> None:
        loop = asyncio.get_running_loop()
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "localhost", **yard.headers}.items())
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", yard.port))
            await loop.sock_sendall(connection, f"GET {path}/events HTTP/1.1\r\n{head}\r\n".encode())
            while byte := await loop.sock_recv(connection, 1):
                self.received += byte
                self._begun.set()
                await asyncio.sleep(1)


async def test_other_readers_get_all_events_when_one_reads_a_byte_a_second(small_yard: Yard) -> None:
    """With 60 MB behind he delays nobody, and server and gateway hold at most 32 MiB for him."""
    pids = [small_yard.pid("server-0"), small_yard.pid("envoy")]
    async with rest(small_yard) as client:
        agent = await client.agent()
        # The same without a slow reader first, so that only what he adds is counted.
        await publish_and_follow(client, await client.new_session(agent))
        before = sum(map(resident_kib, pids))
        path = await client.new_session(agent)
        slow = SlowReader()
        async with slow.reading(small_yard, path):
            await publish_and_follow(client, path)
            grown = sum(map(resident_kib, pids)) - before
        assert len(slow.received) < MESSAGE_BYTES
        assert grown <= ALLOWED_KIB
