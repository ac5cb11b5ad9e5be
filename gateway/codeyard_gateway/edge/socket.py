"""One open WebSocket and its call: frames go both ways, each waits for the one before it, one end ends the other."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import Any, cast

import grpc
import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web
from google.api import httpbody_pb2

from codeyard_gateway.edge.failures import SERVICE_RESTART, Refused, close_text, failed_call
from codeyard_gateway.edge.messages import Malformed, Requests

log = structlog.get_logger(__name__)

Call = grpc.aio.StreamStreamCall[bytes, bytes]

MAX_FRAME_BYTES = 2 * 1024 * 1024
"""Largest frame from a client; a larger one closes the socket with 1009."""

PING_AFTER = 1
DEAD_AFTER = 3
"""Looks without a sign of the peer: at the first and the second a ping is sent, at the third the peer is dead."""

_NO_CODE = 1005
_VANISHED = 1006


async def write(call: Call, message: bytes) -> bool:
    """Write a message once the transport takes it; return False if the call has ended, whose status then says why.

    Not by ``call.write``: when the end of the call and the message cross, it puts INTERNAL in the place of the status
    that the server sent, and a caller without a credential would be told that the server is broken.
    """
    try:
        await call.wait_for_connection()
        await cast(Any, call)._cython_call.send_serialized_message(message)
    except (grpc.aio.AioRpcError, grpc.aio.InternalError):
        return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """Why a socket ends: who ended it, the close code, the text of the close frame.

    ``by`` is "client", "server" (the call ended), "edge" (a frame it does not take, or a stop) or "network".
    """

    by: str
    code: int
    text: bytes = b""


class Socket:
    """Bridges a WebSocket, which may not be prepared yet, and an open call.

    Memory is bounded: of each direction one message is in hand, the rest waits with its sender. The library's own
    heartbeat is not used: it takes a peer for dead while this side does not read, or while a slow one reads a backlog.
    """

    def __init__(
        self, request: web.BaseRequest, websocket: web.WebSocketResponse[Any], call: Call, requests: Requests
    ) -> None:
        self._request = request
        self._websocket = websocket
        self._call = call
        self._requests = requests
        self._stopped: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._received = self._sent = 0
        self._seen = (0, 0)
        self._looks = 0
        self._forwarding = self._sending = False
        self._ping: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Close the socket because this process stops; the client may come back to another."""
        if not self._stopped.done():
            self._stopped.set_result(End("edge", SERVICE_RESTART, b"The server restarts"))

    async def run(self, close_seconds: float) -> End:
        """Carry frames until one side ends, then end the other; return why.

        A peer that does not answer the close frame within ``close_seconds`` is cut off.
        """
        started = time.monotonic()
        tasks = {asyncio.create_task(self._incoming()), asyncio.create_task(self._outgoing())}
        try:
            end = await self._first_end(tasks)
        except Exception:  # whatever it is, the client must hear of it and the call must end
            log.exception("socket.fault")
            end = End("edge", WSCloseCode.INTERNAL_ERROR, b"INTERNAL: The server failed to answer.")
        finally:
            self._call.cancel()
            ending = [*tasks, *([self._ping] if self._ping else [])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        await self._close(end, close_seconds)
        log.info(
            "socket.closed",
            path=self._request.path,
            request_id=self._request.headers.get("X-Request-Id"),
            by=end.by,
            code=int(end.code),
            received=self._received,
            sent=self._sent,
            seconds=round(time.monotonic() - started, 3),
        )
        return end

    async def _first_end(self, tasks: set[asyncio.Task[End | None]]) -> End:
        """Wait for a side that knows why it ended. A side that only found the other one gone returns None."""
        waiting: set[asyncio.Future[Any]] = {*tasks, self._stopped}
        while waiting != {self._stopped}:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                end: End | None = task.result()
                if end is not None:
                    return end
        return End("network", _VANISHED)

    async def _incoming(self) -> End | None:
        """Read frames into the call. The next is not read before the server has taken this one."""
        while True:
            message = await self._websocket.receive()
            self._received += 1
            match message.type:
                case WSMsgType.TEXT if len(message.data) > MAX_FRAME_BYTES:
                    return End("edge", WSCloseCode.MESSAGE_TOO_BIG, b"A frame holds at most 2 MiB")
                case WSMsgType.TEXT:
                    self._forwarding = True
                    try:
                        taken = await write(self._call, await self._requests.frame(message.data))
                    except Malformed as error:
                        refused = Refused(400, "INVALID_ARGUMENT", str(error))
                        return End("edge", refused.close_code, refused.close_text)
                    finally:
                        self._forwarding = False
                    if not taken:
                        return None
                case WSMsgType.PING:
                    with contextlib.suppress(ConnectionError):
                        await self._websocket.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.BINARY:
                    return End("edge", WSCloseCode.UNSUPPORTED_DATA, b"Frames are text")
                case WSMsgType.CLOSE:
                    return End("client", message.data or _NO_CODE)
                case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
                    return End("edge", message.data.code, close_text(str(message.data)))
                case _:
                    return End("network", _VANISHED)

    async def _outgoing(self) -> End | None:
        """Write the call's documents as frames. The next is not taken from the server before this one is on its way."""
        while True:
            try:
                answer = await self._call.read()
            except grpc.aio.AioRpcError as error:
                failure = failed_call(error.code(), error.trailing_metadata() or ())
                return End("server", failure.close_code, failure.close_text)
            if not isinstance(answer, bytes):
                return End("server", WSCloseCode.OK)
            document = httpbody_pb2.HttpBody.FromString(answer).data
            if not document:
                continue
            self._sending = True
            try:
                await self._websocket.send_frame(document, WSMsgType.TEXT)
            except ConnectionError:
                return None
            self._sending = False
            self._sent += 1

    async def _close(self, end: End, seconds: float) -> None:
        """Say why, unless nobody listens; then make sure that nothing stays behind."""
        transport = self._request.transport
        if transport is None:
            return
        if end.by == "network" or self._request.protocol.writing_paused:
            transport.abort()
            return
        # A client's own code comes back to it; 1005 stands for none and must not be sent (RFC 6455, 7.4.1).
        code = WSCloseCode.OK if end.code == _NO_CODE else end.code
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._websocket.close(code=code, message=end.text)
        if transport.get_write_buffer_size():
            # A closing transport waits for its buffer, which a peer that has stopped reading never empties.
            asyncio.get_running_loop().call_later(seconds, transport.abort)

    def look(self) -> None:
        """Look for a sign of the peer since the last look; ask a silent one for it, and cut off one that gives none.

        A frame is a sign, and so is a frame taken while others wait. A wait for the server is not the peer's fault.
        """
        seen = (self._received, self._sent)
        alive = self._forwarding or seen[0] != self._seen[0] or (self._sending and seen[1] != self._seen[1])
        self._seen = seen
        self._looks = 0 if alive else self._looks + 1
        transport = self._request.transport
        if self._looks >= DEAD_AFTER and transport is not None:
            transport.abort()
        elif self._looks >= PING_AFTER and not self._sending:
            self._ping = asyncio.create_task(self._send_ping())

    async def _send_ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._websocket.ping()
