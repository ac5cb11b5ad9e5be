"""The WebSocket edge between a client and a gRPC server whose handler each test writes itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import pathlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import grpc
import multidict
from codeyard_gateway.compiler.model import Casing
from codeyard_gateway.compiler.reader import read_image
from codeyard_gateway.edge import Edge, EdgeSettings
from codeyard_gateway.edge.messages import descriptor_pools
from google.api import httpbody_pb2
from google.protobuf import message_factory

from tests.gateway.fixture_api import PROTOS, compile_protos

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[AsyncIterator[Any], Context], Awaitable[None]]

ROOM = "/v1/rooms/blue/talk"
HALL = "/api/halls/north/shout"
PATIENCE = 20
"""Seconds after which a test that waits has failed."""
TOKEN = "cyk_0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@functools.cache
def socket_image() -> bytes:
    """Return the image of the services with sockets."""
    return compile_protos(PROTOS, "yardtest/v1/socket_service.proto")


@functools.cache
def request_class(name: str) -> Any:
    """Return the class of a request message."""
    pool = descriptor_pools(*read_image(socket_image()))[Casing.SNAKE]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"yardtest.v1.{name}"))


async def accept(context: Context) -> None:
    """Let the upgrade happen."""
    await context.send_initial_metadata((("x-http-code", "101"),))


async def say(context: Context, document: Any) -> None:
    """Send one document."""
    await context.write(httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode()))


async def fail(context: Context, code: grpc.StatusCode, status: int, reason: str, text: str, **headers: str) -> None:
    """End the call with an error as the server does."""
    body = json.dumps({"error": text, "status": status, "code": reason})
    metadata: dict[str, str | bytes] = {
        "x-http-code": str(status),
        "x-error-body": body,
        "grpc-status-details-bin": text.encode(),
        **headers,
    }
    await context.abort(code, text, tuple(metadata.items()))


def metadata_of(context: Context) -> dict[str, Any]:
    """Return the metadata of the call."""
    return {str(key): value for key, value in context.invocation_metadata() or ()}


async def echo(requests: AsyncIterator[Any], context: Context) -> None:
    """Accept and answer every request with what it says."""
    await accept(context)
    async for request in requests:
        await say(context, {"echo": request.text_line})
    # The requests also end when the call is cancelled, a moment before the handler is.
    await asyncio.Event().wait()


class Sockets:
    """The edge, the server behind it and a client. ``handler`` answers every call."""

    def __init__(self, edge: Edge, server: grpc.aio.Server, client: aiohttp.ClientSession) -> None:
        self.edge = edge
        self.server = server
        self.client = client
        self.handler: Handler = echo
        self.calls = 0
        self._ended: asyncio.Queue[bool] = asyncio.Queue()

    async def _answer(self, requests: AsyncIterator[Any], context: Context) -> None:
        self.calls += 1
        try:
            await self.handler(requests, context)
        except asyncio.CancelledError:
            self._ended.put_nowait(True)
            raise
        except grpc.aio.InternalError:
            # So a write ends that was waiting for the window when the call was cancelled.
            self._ended.put_nowait(True)
        else:
            self._ended.put_nowait(False)

    def handlers(self) -> list[grpc.GenericRpcHandler[Any, Any]]:
        """Return what the gRPC server serves."""
        methods = (("RoomService", "TalkHttp", "TalkRequest"), ("HallService", "ShoutHttp", "ShoutRequest"))
        return [
            grpc.method_handlers_generic_handler(
                f"yardtest.v1.{service}",
                {
                    method: grpc.stream_stream_rpc_method_handler(
                        self._answer,
                        request_deserializer=request_class(request).FromString,
                        response_serializer=httpbody_pb2.HttpBody.SerializeToString,
                    )
                },
            )
            for service, method, request in methods
        ]

    @contextlib.asynccontextmanager
    async def open(
        self, path: str = ROOM, headers: Mapping[str, str] = BEARER, **options: Any
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Any]]:
        """Open a socket and close it at the end."""
        async with (
            asyncio.timeout(PATIENCE),
            self.client.ws_connect(path, headers=headers, **options) as websocket,
        ):
            yield websocket

    async def refused(self, path: str = ROOM, headers: Mapping[str, str] = BEARER) -> aiohttp.ClientResponse:
        """Return the answer to an upgrade that is refused, read to its end."""
        all_headers = multidict.CIMultiDict(_UPGRADE)
        for name in headers:
            all_headers.popall(name, None)
        all_headers.extend(headers)
        async with asyncio.timeout(PATIENCE), self.client.get(path, headers=all_headers) as response:
            await response.read()
            return response

    @contextlib.asynccontextmanager
    async def open_raw(self, path: str = ROOM) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a socket by hand, for clients that do not behave; it is dropped without a close frame at the end.

        The reader's buffer is small, so that what is not read stays with the edge.
        """
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self.edge.address, limit=4096)
            try:
                lines = [
                    f"GET {path} HTTP/1.1",
                    "Host: localhost",
                    *(f"{k}: {v}" for k, v in (_UPGRADE | BEARER).items()),
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode())
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                yield reader, writer
            finally:
                writer.transport.abort()

    async def was_cancelled(self) -> bool:
        """Wait for the end of a call; return whether it was cancelled from outside."""
        async with asyncio.timeout(PATIENCE):
            return await self._ended.get()


@contextlib.asynccontextmanager
async def sockets(**settings: Any) -> AsyncIterator[Sockets]:
    """Start everything on unix sockets; ``settings`` are those of the edge that differ from the defaults."""
    with tempfile.TemporaryDirectory(prefix="cy-edge-") as folder:
        server_socket, edge_socket = f"{folder}/server.sock", f"{folder}/edge.sock"
        server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0), ("grpc.max_receive_message_length", 64 << 20)])
        edge = Edge(EdgeSettings(**{"address": edge_socket, "server": server_socket, **settings}), socket_image())
        connector = aiohttp.UnixConnector(edge_socket, limit=0)
        async with aiohttp.ClientSession("http://localhost", connector=connector) as client:
            one = Sockets(edge, server, client)
            server.add_generic_rpc_handlers(tuple(one.handlers()))
            server.add_insecure_port(f"unix:{server_socket}")
            await server.start()
            await edge.start()
            try:
                yield one
            finally:
                await edge.stop()
                await server.stop(None)
        assert list(pathlib.Path(folder).iterdir()) == []  # noqa: ASYNC240  # the end, nobody waits
