"""One server process behind the gateway under test: grpc.aio and a WebSocket edge, both on unix sockets.

    python -m tests.gateway.backend NAME GRPC_SOCKET EDGE_SOCKET

It sends the metadata of the wire contract and does what the request tells it, also wrong things.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp.web
import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tests.gateway.fixture_api import PACKAGE, fixture_model, message_class

Context = grpc.aio.ServicerContext[Any, Any]


class Backend:
    """The handlers, by method name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.open_streams = 0
        self.held = 0

    def thing(self, context: Context, **members: Any) -> Any:
        """Return a Thing that shows the metadata of the call."""
        thing = message_class("Thing")(process=self.name, internal_note="for typed clients", **members)
        received = {
            str(key): value if isinstance(value, str) else value.hex() for key, value in metadata(context).items()
        }
        json_format.ParseDict(received, thing.received)
        return thing

    async def hold(self, word: str) -> None:
        """Count a call that names ``hold``, and wait for ever in the process it names."""
        if word.startswith("hold"):
            self.held += 1
        if word == f"hold-{self.name}":
            await asyncio.Event().wait()

    async def refuse(self, context: Context, code: grpc.StatusCode, http: str, body: str, text: str) -> None:
        """End the call with an error as the server would."""
        context.set_trailing_metadata((("x-http-code", http), ("x-error-body", body), ("retry-after", "7")))
        await context.abort(code, text)

    async def create_thing(self, request: Any, context: Context) -> Any:
        await self.hold(request.title)
        await context.send_initial_metadata((("x-http-code", "201"), ("set-cookie", "a=1"), ("set-cookie", "b=2")))
        thing = self.thing(context, id="new", title=request.title)
        if request.HasField("note"):
            thing.note = request.note
        return thing

    create_small = create_thing

    async def get_thing(self, request: Any, context: Context) -> Any:
        if request.id == "missing":
            body = '{"error": "no thing \\"missing\\" \\u2603", "status": 404, "code": "NOT_FOUND"}'
            await self.refuse(context, grpc.StatusCode.NOT_FOUND, "404", body, "no thing")
        if request.id == "counters":
            return self.thing(context, sizes=[self.open_streams, self.held])
        await self.hold(request.id)
        return self.thing(context, id=request.id, title=request.title, note=request.owner_id)

    async def get_status(self, request: Any, context: Context) -> Any:
        return self.thing(context, id=request.id, title="status")

    async def check_name(self, request: Any, context: Context) -> Any:
        thing = self.thing(context, id=f"{request.env}|{request.name}", title="check-name")
        thing.created_at.FromJsonString("2026-01-02T03:04:05.678+02:00")
        return thing

    async def update_thing(self, request: Any, context: Context) -> Any:
        return self.thing(context, id=request.id, title=request.title)

    async def delete_thing(self, request: Any, context: Context) -> Any:
        await context.send_initial_metadata((("x-http-code", "204"),))
        return message_class("google.protobuf.Empty")()

    async def list_things(self, request: Any, context: Context) -> Any:
        await context.send_initial_metadata((("x-unwrap", "items"),))
        items = [{"id": str(number), "title": "x" * request.size} for number in range(request.count)]
        return message_class("ListThingsResponse")(items=items)

    async def redirect(self, request: Any, context: Context) -> Any:
        await context.send_initial_metadata((("x-http-code", "303"), ("location", "/v1/things")))
        return message_class("google.protobuf.Empty")()

    async def fail(self, request: Any, context: Context) -> Any:
        if request.crash:
            raise RuntimeError("secret of the server")
        if request.seconds:
            await asyncio.sleep(request.seconds)
        if request.answer_code:
            await context.send_initial_metadata((("x-http-code", request.answer_code),))
            return self.thing(context, title="y" * request.answer_size)
        if request.answer_depth:
            thing = self.thing(context)
            inner = thing.received
            for _ in range(request.answer_depth):
                inner = inner.get_or_create_struct("x")
            return thing
        if request.answer_size:
            return self.thing(context, title="y" * request.answer_size)
        if request.early_metadata:
            await context.send_initial_metadata((("cache-control", "no-store"),))
        trailing = [("x-http-code", request.http_code), ("x-error-body", request.error_body)]
        context.set_trailing_metadata(tuple(pair for pair in trailing if pair[1]))
        codes = {code.value[0]: code for code in grpc.StatusCode}
        await context.abort(codes[request.code or 2], request.message + "m" * request.padding)
        raise AssertionError("abort raises")

    fail_nested = fail

    async def watch_http(self, request: Any, context: Context) -> AsyncIterator[Any]:
        if request.id == "missing":
            body = '{"error": "no thing", "status": 404, "code": "NOT_FOUND"}'
            await self.refuse(context, grpc.StatusCode.NOT_FOUND, "404", body, "no thing")
        self.open_streams += 1
        try:
            async for frame in self.frames(request, context):
                yield frame
        finally:
            self.open_streams -= 1

    async def frames(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """Yield the frames of a stream."""
        frame = message_class("google.api.HttpBody")
        yield frame(content_type="text/event-stream", data=b": hello\n\n")
        for number in range(request.count):
            data = "z" * request.size
            yield frame(content_type="text/event-stream", data=f"id: {number}\ndata: {data}\n\n".encode())
        if request.id == "broken":
            await context.abort(grpc.StatusCode.INTERNAL, "broken in the middle")
        if request.id != "finite":
            await asyncio.Event().wait()

    async def watch(self, request: Any, context: Context) -> AsyncIterator[Any]:
        for number in range(request.count):
            yield self.thing(context, id=str(number), title="t" * request.size)
        if request.id != "finite":
            await asyncio.Event().wait()

    async def list_events_http(self, request: Any, context: Context) -> Any:
        document = json.dumps({"items": [request.id], "received": metadata(context).get("x-envoy-original-path", "")})
        return message_class("google.api.HttpBody")(content_type="application/json", data=document.encode())

    async def list_events(self, request: Any, context: Context) -> Any:
        return message_class("ListThingsResponse")()

    async def attach(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async for request in requests:
            yield self.thing(context, id=request.start.id, title=request.text)

    async def upload(self, requests: AsyncIterator[Any], context: Context) -> Any:
        digest, length, first = hashlib.sha256(), 0, None
        async for request in requests:
            first = first or request
            if request.name == "refused":
                body = '{"error": "too large", "status": 413, "code": "TOO_LARGE"}'
                await self.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "413", body, "too large")
            digest.update(request.content.data)
            length += len(request.content.data)
        return message_class("UploadResponse")(
            name=first.name if first else "",
            length=length,
            sha256=digest.hexdigest(),
            announced=str(metadata(context).get("x-upload-length", "")),
            content_type=first.content.content_type if first else "",
        )

    async def receive(self, request: Any, context: Context) -> Any:
        return message_class("UploadResponse")(
            name=request.name,
            length=len(request.content.data),
            sha256=hashlib.sha256(request.content.data).hexdigest(),
            content_type=request.content.content_type,
        )

    async def download(self, request: Any, context: Context) -> AsyncIterator[Any]:
        body = message_class("google.api.HttpBody")
        extra = [("x-content-length", str(request.size))]
        if metadata(context).get("range"):
            extra += [("x-http-code", "206"), ("content-range", f"bytes 0-{request.size - 1}/{request.size * 2}")]
        await context.send_initial_metadata(tuple(extra))
        if metadata(context).get("x-head"):
            yield body(content_type="application/octet-stream")
            return
        left = request.size
        while left:
            piece = min(left, 262144)
            left -= piece
            yield body(content_type="application/octet-stream", data=b"d" * piece)

    async def get_file(self, request: Any, context: Context) -> Any:
        text = json.dumps({"path": request.path, "original": metadata(context).get("x-envoy-original-path")})
        return message_class("google.api.HttpBody")(content_type="text/plain", data=text.encode())

    async def put_place(self, request: Any, context: Context) -> Any:
        return message_class("Place")(
            place_id=request.place_id, display_name=request.display_name, access_token=request.access_token
        )

    async def list_places(self, request: Any, context: Context) -> Any:
        await context.send_initial_metadata((("x-unwrap", "allPlaces"),))
        places = [{"place_id": str(number)} for number in range(request.how_many)]
        return message_class("ListPlacesResponse")(all_places=places)

    async def get_place_thing(self, request: Any, context: Context) -> Any:
        return self.thing(context, id=request.place_id, sizes=[1])


def metadata(context: Context) -> dict[str, Any]:
    """Return the invocation metadata as a dictionary."""
    return {str(key): value for key, value in context.invocation_metadata() or ()}


def handlers(backend: Backend) -> list[grpc.GenericRpcHandler]:  # type: ignore[type-arg]  # generic only in its stubs
    """Return generic handlers for every method of the fixture services, twins included."""
    _, api = fixture_model()
    found = []
    for service in api.services:
        methods = {}
        for rpc in (rpc for rpc in api.rpcs if rpc.service == service.name):
            request, response = message_class(rpc.request), message_class(rpc.response)
            make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = {
                (False, False): grpc.unary_unary_rpc_method_handler,
                (False, True): grpc.unary_stream_rpc_method_handler,
                (True, False): grpc.stream_unary_rpc_method_handler,
                (True, True): grpc.stream_stream_rpc_method_handler,
            }[rpc.streaming.client_streams, rpc.streaming.server_streams]
            methods[rpc.name] = make(
                getattr(backend, _snake(rpc.name)),
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
        found.append(grpc.method_handlers_generic_handler(service.name, methods))
    return found


def _snake(name: str) -> str:
    """Return a method's name as Python writes it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


async def socket(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    """Echo frames; "close" closes with 4001. Without a credential: 401."""
    if "authorization" not in request.headers:
        return aiohttp.web.json_response({"error": "no credential", "status": 401}, status=401)
    answer = aiohttp.web.WebSocketResponse(protocols=("yard",))
    await answer.prepare(request)
    await answer.send_json({"id": request.match_info["id"], "request_id": request.headers.get("x-request-id")})
    async for message in answer:
        if message.data == "close":
            await answer.close(code=4001, message=b"asked to")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await answer.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await answer.send_bytes(message.data)
    return answer


async def serve(name: str, grpc_socket: str, edge_socket: str) -> None:
    """Serve until the process is killed."""
    options = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.server.max_pending_requests", 30000),
        ("grpc.server.max_pending_requests_hard_limit", 30000),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.absolute_max_metadata_size", 128 * 1024),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(handlers(Backend(name)))
    checks = HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"unix:{grpc_socket}")
    await server.start()
    application = aiohttp.web.Application()
    application.router.add_get("/v1/things/{id}/attach", socket)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    pathlib.Path(edge_socket).unlink(missing_ok=True)  # noqa: ASYNC240  # start-up, nobody waits yet
    await aiohttp.web.UnixSite(runner, edge_socket).start()
    print("ready", PACKAGE, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
