"""gRPC and gRPC-web on the same port as everything else."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import aiohttp
import grpc
import httpx2
import pytest

from tests.gateway.fixture_api import message_class
from tests.gateway.gateway import Gateway

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs
SERVICE = "/yardtest.v1.ThingService"


def unary(channel: grpc.aio.Channel, method: str, request: str, response: str) -> Any:
    """Return a callable for a unary method."""
    return channel.unary_unary(
        f"{SERVICE}/{method}",
        request_serializer=message_class(request).SerializeToString,
        response_deserializer=message_class(response).FromString,
    )


def raw_unary(channel: grpc.aio.Channel, path: str) -> Any:
    """Return a callable that sends and receives bytes."""
    return channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)


async def test_native_unary_call_goes_straight_through(gateway: Gateway) -> None:
    """Typed clients get fields that JSON does not show, and the request id in the metadata."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call = unary(channel, "GetThing", "GetThingRequest", "Thing")(
            message_class("GetThingRequest")(id="a"), metadata=(("x-request-id", "my-id"), ("tag-bin", b"\xff"))
        )
        thing = await call
        assert (thing.id, thing.internal_note) == ("a", "for typed clients")
        assert thing.received["x-request-id"] == "my-id"
        assert thing.received["tag-bin"] == "ff"
        assert "x-envoy-original-path" not in thing.received
        assert dict(await call.initial_metadata())["x-request-id"] == "my-id"


async def test_native_answer_has_no_metadata_for_the_gateway(gateway: Gateway) -> None:
    """A status of HTTP means nothing to a gRPC client; other metadata pass."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call = unary(channel, "CreateThing", "CreateThingRequest", "Thing")(message_class("CreateThingRequest")())
        names = [name for name, _ in await call.initial_metadata()]
        assert "set-cookie" in names
        assert "x-http-code" not in names


async def test_native_error_keeps_its_status_and_message(gateway: Gateway) -> None:
    """The shapes of HTTP errors do not touch it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await unary(channel, "GetThing", "GetThingRequest", "Thing")(message_class("GetThingRequest")(id="missing"))
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.NOT_FOUND, "no thing")


async def test_native_call_of_an_unknown_method_is_unimplemented(gateway: Gateway) -> None:
    """Inside our packages by the server, outside by the gateway."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        for path in (f"{SERVICE}/Nothing", "/other.v1.Service/Call"):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await raw_unary(channel, path)(b"")
            assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_native_deadline_is_the_clients_own(gateway: Gateway) -> None:
    """The gateway's deadline of a second is for callers that bring none."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        fail = unary(channel, "Fail", "FailRequest", "Thing")
        request = message_class("FailRequest")(seconds=1.5, code=9, message="after the gateway's own deadline")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await fail(request, timeout=20)
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await fail(message_class("FailRequest")(seconds=30))
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_native_streams_run_both_ways(gateway: Gateway) -> None:
    """A bidirectional stream answers each message before the next is sent."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        method: Any = channel.stream_stream(
            f"{SERVICE}/Attach",
            request_serializer=message_class("AttachRequest").SerializeToString,
            response_deserializer=message_class("Thing").FromString,
        )
        attach = method()
        await attach.write(message_class("AttachRequest")(start={"id": "a"}))
        assert (await attach.read()).id == "a"
        await attach.write(message_class("AttachRequest")(text="hello"))
        assert (await attach.read()).title == "hello"
        await attach.done_writing()
        assert await attach.read() is EOF


async def test_native_health_is_reachable(gateway: Gateway) -> None:
    """The standard services besides our own are let through."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        assert await raw_unary(channel, "/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"


async def test_native_call_to_an_unknown_host_is_refused(gateway: Gateway) -> None:
    """The host rule holds for every protocol."""
    options = (("grpc.default_authority", "evil.example"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await unary(channel, "GetThing", "GetThingRequest", "Thing")(message_class("GetThingRequest")(id="a"))
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNKNOWN, "unknown host")


async def test_native_call_with_broken_metadata_harms_no_other(gateway: Gateway) -> None:
    """Only a hand-written client sends -bin metadata that is not base64; its stream alone fails."""
    body = frame(message_class("GetThingRequest")(id="a").SerializeToString())
    headers = {"content-type": "application/grpc", "te": "trailers"}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        watch: Any = channel.unary_stream(
            f"{SERVICE}/Watch",
            request_serializer=message_class("WatchRequest").SerializeToString,
            response_deserializer=message_class("Thing").FromString,
        )(message_class("WatchRequest")(id="a", count=1))
        assert (await watch.read()).id == "0"
        async with httpx2.AsyncClient(http1=False, http2=True, base_url=gateway.url) as client:
            for value in ("!!!", "a", "===="):
                await client.post(f"{SERVICE}/GetThing", content=body, headers=headers | {"x-some-bin": value})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.read(), 0.05)


def frame(payload: bytes) -> bytes:
    """Return a length-prefixed message."""
    return struct.pack(">BI", 0, len(payload)) + payload


def unframe(data: bytes) -> list[tuple[int, bytes]]:
    """Return the frames of a gRPC-web body as (flags, payload); flag 0x80 marks the trailers."""
    found = []
    while data:
        flags, length = struct.unpack(">BI", data[:5])
        found.append((flags, data[5 : 5 + length]))
        data = data[5 + length :]
    return found


@pytest.mark.parametrize("text", [False, True])
async def test_grpc_web_unary_call_has_its_trailers_in_the_body(http: aiohttp.ClientSession, text: bool) -> None:
    """Binary and base64 form, for browsers."""
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = frame(message_class("GetThingRequest")(id="a").SerializeToString())
    headers = {"content-type": kind, "x-grpc-web": "1", "accept": kind}
    data = base64.b64encode(body) if text else body
    async with http.post(f"{SERVICE}/GetThing", data=data, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("application/grpc-web")
        assert "x-request-id" in answer.headers
        raw = await answer.read()
    frames = unframe(decode_pieces(raw) if text else raw)
    assert message_class("Thing").FromString(frames[0][1]).id == "a"
    assert frames[-1][0] == 0x80
    assert b"grpc-status:0" in frames[-1][1].replace(b" ", b"")


def decode_pieces(raw: bytes) -> bytes:
    """Decode base64 that was padded after each piece."""
    pieces = [raw[start : start + 4] for start in range(0, len(raw), 4)]
    return b"".join(base64.b64decode(piece) for piece in pieces)


async def test_grpc_web_error_is_in_headers_or_trailers(http: aiohttp.ClientSession) -> None:
    """A browser client finds grpc-status, not our JSON."""
    body = frame(message_class("GetThingRequest")(id="missing").SerializeToString())
    async with http.post(
        f"{SERVICE}/GetThing", data=body, headers={"content-type": "application/grpc-web+proto"}
    ) as answer:
        assert answer.headers.get("grpc-status") == "5"
        assert answer.headers.get("grpc-message") == "no thing"
        assert b"error" not in await answer.read()


async def test_grpc_web_stream_is_flushed_message_by_message(http: aiohttp.ClientSession) -> None:
    """The stream does not end, and the first messages are there."""
    body = frame(message_class("WatchRequest")(id="a", count=2).SerializeToString())
    async with http.post(
        f"{SERVICE}/Watch", data=body, headers={"content-type": "application/grpc-web+proto"}
    ) as answer:
        for number in range(2):
            flags, length = struct.unpack(">BI", await answer.content.readexactly(5))
            assert flags == 0
            assert message_class("Thing").FromString(await answer.content.readexactly(length)).id == str(number)


async def test_grpc_web_of_a_foreign_page_with_a_cookie_is_refused(http: aiohttp.ClientSession) -> None:
    """The origin rule holds for every protocol a page can speak."""
    headers = {"content-type": "application/grpc-web+proto", "origin": "https://evil.example", "cookie": "s=1"}
    async with http.post(f"{SERVICE}/GetThing", data=frame(b""), headers=headers) as answer:
        assert answer.headers["grpc-status"] == "7"
        assert answer.headers["grpc-message"].startswith("Pages of this origin")
