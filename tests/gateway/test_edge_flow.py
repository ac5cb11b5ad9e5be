"""The WebSocket edge under pressure: who does not read, who does not answer, who sends too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog
from aiohttp import WSMsgType

from tests.gateway import sockets as support
from tests.gateway.sockets import PATIENCE, Sockets, accept, echo, say

BLOCK = 65536
BLOCKS = 3200
"""200 MiB in all."""
HELD = 4 << 20
"""Most bytes that may be on their way to one peer, in transports, HTTP/2 windows and the kernel."""


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    """The edge with its defaults."""
    async with support.sockets() as running:
        yield running


class Flood:
    """A handler that sends blocks as fast as they are taken, and counts them."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        self.blocks = blocks
        self.sent = 0

    async def __call__(self, requests: AsyncIterator[object], context: support.Context) -> None:
        await accept(context)
        for number in range(self.blocks):
            await say(context, f"{number:08}" + "x" * (BLOCK - 10))
            self.sent += 1


async def turns(sockets: Sockets, number: int = 100) -> None:
    """Let the edge do what it can: a socket of its own sends frames and gets every answer."""
    async with sockets.open("/v1/rooms/clock/talk") as websocket:
        await websocket.receive_json()
        for count in range(number):
            await websocket.send_json({"text_line": f"{count}"})
            assert await websocket.receive_json() == {"echo": f"{count}"}


async def standstill(sockets: Sockets, flood: Flood) -> int:
    """Wait until nothing moves any more while the edge serves others; return how many blocks were sent."""
    before = -1
    while flood.sent != before:
        before = flood.sent
        await turns(sockets)
    return before


def by_room(**handlers: support.Handler) -> support.Handler:
    """Return a handler that chooses another by the room of the start; rooms without one echo."""

    async def choose(requests: AsyncIterator[object], context: support.Context) -> None:
        first = await anext(requests)
        room: str = first.start.room_id  # type: ignore[attr-defined]

        async def again() -> AsyncIterator[object]:
            yield first
            async for request in requests:
                yield request

        await handlers.get(room, echo)(again(), context)

    return choose


async def test_client_that_does_not_read_makes_the_server_wait_and_gets_everything_later(sockets: Sockets) -> None:
    """Little is pulled from the server beyond what was read; others are served meanwhile; then all arrives in order."""
    flood = Flood()
    sockets.handler = by_room(flood=flood)
    async with sockets.open("/v1/rooms/flood/talk") as websocket:
        assert 0 < await standstill(sockets, flood) * BLOCK < HELD
        for number in range(BLOCKS):
            text: str = await websocket.receive_json()
            assert text.startswith(f"{number:08}x")
        assert await standstill(sockets, flood) == BLOCKS


async def test_many_clients_that_do_not_read_hold_up_nobody(sockets: Sockets) -> None:
    """Their streams share one connection to the server, and its window is not theirs to fill."""
    flood = Flood()
    sockets.handler = by_room(flood=flood)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(sockets.open_raw("/v1/rooms/flood/talk"))
        assert 0 < await standstill(sockets, flood) * BLOCK < 40 * HELD
    for _ in range(40):
        await sockets.was_cancelled()


async def test_server_that_does_not_read_makes_the_client_wait_and_gets_everything_later(sockets: Sockets) -> None:
    """Frames are not taken from a client faster than its call takes them, and none is lost or passes another."""
    read = asyncio.Event()
    received = asyncio.Queue[int]()

    async def drink(requests: AsyncIterator[object], context: support.Context) -> None:
        await accept(context)
        await read.wait()
        async for request in requests:
            if request.text_line:  # type: ignore[attr-defined]
                received.put_nowait(int(request.text_line[:8]))  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    flood = Flood()
    sockets.handler = by_room(drink=drink)
    async with sockets.open("/v1/rooms/drink/talk") as websocket:

        async def pour() -> None:
            for number in range(BLOCKS // 4):
                await websocket.send_json({"text_line": f"{number:08}" + "x" * BLOCK})
                flood.sent += 1

        pouring = asyncio.create_task(pour())
        assert 0 < await standstill(sockets, flood) * BLOCK < HELD
        read.set()
        for number in range(BLOCKS // 4):
            assert await received.get() == number
        await pouring


async def test_large_frame_does_not_stop_the_others(sockets: Sockets) -> None:
    """Two megabytes of small values take long to read; a whole conversation fits in between."""
    order: list[str] = []

    async def note(requests: AsyncIterator[object], context: support.Context) -> None:
        await accept(context)
        await anext(requests)
        await anext(requests)
        order.append("large")
        await say(context, "read")

    sockets.handler = by_room(large=note)
    async with sockets.open("/v1/rooms/large/talk") as websocket:
        await websocket.send_str(json.dumps({"data": {"list": [0] * 300_000}}))
        await turns(sockets, 10)
        order.append("others")
        assert await websocket.receive_json() == "read"
    assert order == ["others", "large"]


async def test_silent_client_that_answers_pings_stays(sockets: Sockets) -> None:
    """A ping comes after a time of silence, again and again, and an answer to it is all that is asked."""
    async with (
        support.sockets(ping_seconds=0.05) as quick,
        quick.open(autoping=False) as websocket,
    ):
        await websocket.receive_json()
        for _ in range(10):
            message = await websocket.receive()
            assert message.type is WSMsgType.PING
            await websocket.pong(message.data)
        await websocket.send_json({"text_line": "here"})
        while (message := await websocket.receive()).type is WSMsgType.PING:
            await websocket.pong(message.data)
        assert message.json() == {"echo": "here"}


async def test_ping_of_a_client_is_answered(sockets: Sockets) -> None:
    """With its own payload."""
    async with sockets.open(autoping=False) as websocket:
        await websocket.receive_json()
        await websocket.ping(b"there?")
        message = await websocket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"there?")


async def test_client_that_answers_no_ping_is_dropped_and_its_call_cancelled() -> None:
    """Two pings go unanswered, then the connection is cut."""
    async with support.sockets(ping_seconds=0.05) as sockets:
        with structlog.testing.capture_logs() as logs:
            async with sockets.open(autoping=False) as websocket:
                await websocket.receive_json()
                kinds = [(await websocket.receive()).type for _ in range(3)]
                assert kinds == [WSMsgType.PING, WSMsgType.PING, WSMsgType.CLOSED]
            assert await sockets.was_cancelled()
            await sockets.edge.stop()
    (entry,) = [entry for entry in logs if entry["event"] == "socket.closed"]
    assert (entry["by"], entry["code"]) == ("network", 1006)


async def test_client_that_neither_reads_nor_answers_is_dropped() -> None:
    """Also with the buffers to it full, when no ping would get through."""
    async with support.sockets(ping_seconds=0.2) as sockets:
        sockets.handler = Flood()
        async with sockets.open_raw():
            assert await sockets.was_cancelled()


async def test_client_that_reads_a_backlog_slowly_is_not_taken_for_dead(sockets: Sockets) -> None:
    """It cannot answer a ping that waits behind the backlog; that it takes frames is sign enough."""
    flood = Flood(64)
    sockets.handler = by_room(flood=flood)
    async with sockets.open_raw("/v1/rooms/flood/talk") as (reader, _):
        before = await standstill(sockets, flood)
        assert before < flood.blocks
        while before < flood.blocks:
            for _ in range(2):
                sockets.edge.look()
            while flood.sent == before:
                await reader.readexactly(4096)
            before = await standstill(sockets, flood)
        assert await reader.readexactly(BLOCK)


async def test_client_is_not_taken_for_dead_while_the_server_makes_it_wait(sockets: Sockets) -> None:
    """The edge does not read from it then, so it cannot see an answer."""
    read = asyncio.Event()
    flood = Flood()

    async def drink(requests: AsyncIterator[object], context: support.Context) -> None:
        await accept(context)
        await read.wait()
        count = 0
        async for request in requests:
            count += 1
            if request.text_line == "last":  # type: ignore[attr-defined]
                break
        await say(context, count)

    sockets.handler = by_room(drink=drink)
    async with sockets.open("/v1/rooms/drink/talk") as websocket:

        async def pour() -> None:
            for _ in range(200):
                await websocket.send_json({"text_line": "x" * BLOCK})
                flood.sent += 1
            await websocket.send_json({"text_line": "last"})

        pouring = asyncio.create_task(pour())
        assert await standstill(sockets, flood) < 200
        for _ in range(10):
            sockets.edge.look()
        read.set()
        await pouring
        assert await websocket.receive_json() == 202


async def test_stop_does_not_wait_for_a_client_that_does_not_read() -> None:
    """It is cut off; an upgrade whose call has not been accepted yet is, too."""

    async def hesitate(requests: AsyncIterator[object], context: support.Context) -> None:
        await asyncio.Event().wait()

    async with support.sockets(close_seconds=0.2) as sockets:
        flood = Flood()
        sockets.handler = by_room(flood=flood, hesitate=hesitate)
        async with sockets.open_raw("/v1/rooms/flood/talk") as (reader, _):
            opening = asyncio.create_task(sockets.refused("/v1/rooms/hesitate/talk"))
            await standstill(sockets, flood)
            with structlog.testing.capture_logs() as logs:
                async with asyncio.timeout(PATIENCE):
                    await sockets.edge.stop()
            assert [(e["by"], e["code"]) for e in logs if e["event"] == "socket.closed"] == [("edge", 1012)]
            with contextlib.suppress(ConnectionError):
                while await reader.read(BLOCK):
                    pass
            with contextlib.suppress(aiohttp.ClientError):
                assert (await opening).status == 503
