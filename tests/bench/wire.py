"""A load client that is cheap enough to share two cores with what it measures: HTTP/1.1 on asyncio protocols.

It knows just what the gateway and the peers answer (content-length, or an endless chunked stream) and takes no part in
any test.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, cast

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Complete the answer that is waited for, once all of it is here."""
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._waiter is None:
            return
        match = _LENGTH.search(head)
        length = int(match[1]) if match else 0
        if len(rest) >= length:
            self._buffer = rest[length:]
            waiter, self._waiter = self._waiter, None
            waiter.set_result((int(head[9:12]), rest[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is under way."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the connection was closed"))

    async def request(self, data: bytes) -> tuple[int, bytes]:
        """Send the bytes of a request; return status and body."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiter

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


class Stream(asyncio.Protocol):
    """One endless chunked answer; the payload of every chunk is handed on once it is complete."""

    def __init__(self, request: bytes, receive: Callable[[bytes], None]) -> None:
        self._request = request
        self._receive = receive
        self._buffer = b""
        self._in_body = False
        self.transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Hand on what is complete."""
        data = self._buffer + data
        if not self._in_body:
            head, separator, body = data.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = data
                return
            if head[9:12] != b"200":
                self._fail(f"the stream was refused: {data[:300]!r}")
                return
            self._in_body, data = True, body
        self._buffer = self._decoded(data)

    def _decoded(self, data: bytes) -> bytes:
        """Hand on the payloads of all complete chunks and return the rest."""
        start = 0
        while (end := data.find(b"\r\n", start)) >= 0:
            first, last = end + 2, end + 2 + int(data[start:end], 16)
            if len(data) < last + 2:
                break
            if not self.opened.done():
                self.opened.set_result(None)
            self._receive(data[first:last])
            start = last + 2
        return data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits for it to open."""
        self.ended = True
        self._fail("the stream was closed")

    def _fail(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(reason))
        self.close()

    def close(self) -> None:
        """Close it."""
        if self.transport is not None:
            self.transport.close()


class Target:
    """Where requests go: a TCP port, or a unix socket."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        self.address = address
        self.headers = headers or {}
        lines = {"host": "localhost", **self.headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def bytes_of(self, method: str, path: str, body: Any = None) -> bytes:
        """Return a request as bytes."""
        data = b"" if body is None else json.dumps(body).encode()
        extra = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n" if body is not None else ""
        return f"{method} {path} HTTP/1.1\r\n{self._head}{extra}\r\n".encode() + data

    async def _connect(self, factory: Callable[[], asyncio.Protocol]) -> Any:
        loop = asyncio.get_running_loop()
        if "/" in self.address:
            _, protocol = await loop.create_unix_connection(factory, self.address)
        else:
            host, _, port = self.address.rpartition(":")
            _, protocol = await loop.create_connection(factory, host, int(port))
        return protocol

    async def connection(self) -> Connection:
        """Open a connection."""
        connection: Connection = await self._connect(Connection)
        return connection

    async def stream(self, path: str, receive: Callable[[bytes], None]) -> Stream:
        """Open an event stream and wait for its first bytes."""
        request = self.bytes_of("GET", path)
        stream: Stream = await self._connect(lambda: Stream(request, receive))
        await stream.opened
        return stream

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """Make one call on a connection of its own; it must succeed."""
        connection = await self.connection()
        status, data = await connection.request(self.bytes_of(method, path, body))
        connection.close()
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {data[:300]!r}")
        return json.loads(data)
