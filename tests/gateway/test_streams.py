"""Server-sent events, uploads and downloads."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import aiohttp
import httpx2
import pytest

from tests.gateway.gateway import Gateway, counters, until

EVENTS = "/v1/things/a/events"


async def test_frames_arrive_one_by_one_as_they_are_sent(http: aiohttp.ClientSession) -> None:
    """Nothing waits for more: the stream is silent after these frames and does not end."""
    async with http.get(EVENTS, params={"count": "2", "size": "3"}) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert "x-request-id" in answer.headers
        assert await answer.content.readuntil(b"\n\n") == b": hello\n\n"
        assert await answer.content.readuntil(b"\n\n") == b"id: 0\ndata: zzz\n\n"
        assert await answer.content.readuntil(b"\n\n") == b"id: 1\ndata: zzz\n\n"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.read(1), 0.05)


async def test_frames_arrive_one_by_one_over_http2(gateway: Gateway) -> None:
    """The same stream in HTTP/2 frames."""
    async with (
        httpx2.AsyncClient(http1=False, http2=True, base_url=gateway.url) as client,
        client.stream("GET", f"{EVENTS}?count=1&size=2") as answer,
    ):
        assert answer.http_version == "HTTP/2"
        received = b""
        async for piece in answer.aiter_raw():
            received += piece
            if received == b": hello\n\nid: 0\ndata: zz\n\n":
                break


async def test_error_before_the_first_frame_keeps_its_status(http: aiohttp.ClientSession) -> None:
    """Nothing was sent yet, so the answer is an ordinary error."""
    async with http.get("/v1/things/missing/events") as answer:
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert await answer.json() == {"error": "no thing", "status": 404, "code": "NOT_FOUND"}


async def test_error_after_a_frame_ends_the_stream(http: aiohttp.ClientSession) -> None:
    """What was sent before stays readable; HTTP/1.1 cannot say more, so a server sends an error event first."""
    async with http.get("/v1/things/broken/events", params={"count": "1", "size": "1"}) as answer:
        assert await answer.content.read() == b": hello\n\nid: 0\ndata: z\n\n"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, */*;q=0.8", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8, */*;q=0.1", "application/json"),
    ],
)
async def test_accept_chooses_between_stream_and_json(
    http: aiohttp.ClientSession, accept: str | None, kind: str
) -> None:
    """JSON only for those who ask for it and not for a stream."""
    headers = {"accept": accept} if accept else {}
    skip = [] if accept else ["accept"]
    path = "/v1/things/finite/events?count=0"
    async with http.get(path, headers=headers, skip_auto_headers=skip) as answer:
        assert answer.headers["content-type"] == kind
        if kind == "application/json":
            assert await answer.json() == {"items": ["finite"], "received": f"/~json{path}"}
        else:
            assert await answer.read() == b": hello\n\n"


async def test_server_learns_at_once_when_a_reader_goes_away(http: aiohttp.ClientSession) -> None:
    """The call is cancelled; the counter of open streams of that process falls."""

    async def no_stream_is_open() -> bool:
        return not any((await counters(http, "open_streams", 2)).values())

    async with http.get("/v1/things/counted/events") as answer:
        assert await answer.content.readuntil(b"\n\n")
        assert not await no_stream_is_open()
    await until(no_stream_is_open)


async def test_readers_that_stall_do_not_hold_up_others(gateway: Gateway) -> None:
    """Four streams of 40 MB that nobody reads, and every other call goes on."""
    request = "GET /v1/things/a/events?count=400&size=100000 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    stalled = []
    try:
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
            writer.write(request.encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            stalled.append(writer)
        async with aiohttp.ClientSession(gateway.url) as http, asyncio.timeout(20):
            for _ in range(20):
                async with http.get("/v1/things", params={"count": "100", "size": "1000"}) as answer:
                    assert len(await answer.read()) > 100_000
            async with http.get("/v1/blobs/a", params={"size": "30000000"}) as answer:
                assert len(await answer.read()) == 30_000_000
    finally:
        for writer in stalled:
            writer.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_upload_of_20_mb_is_streamed_whole(gateway: Gateway, http2: bool) -> None:
    """Far beyond the limit of JSON bodies; the server learns the announced length and the content type."""
    content = bytes(range(256)) * 80_000
    async with httpx2.AsyncClient(http1=not http2, http2=http2, base_url=gateway.url, timeout=60) as client:
        answer = await client.put("/v1/blobs/big", content=content, headers={"content-type": "image/png"})
    assert answer.json() == {
        "name": "big",
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "announced": str(len(content)),
        "content_type": "image/png",
    }


async def test_upload_without_a_length_announces_none(http: aiohttp.ClientSession) -> None:
    """Chunked bodies have no length; an empty one is one empty message."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"p" * 100_000

    async with http.put("/v1/blobs/chunked", data=pieces()) as answer:
        body = await answer.json()
        assert (body["length"], body["announced"]) == (1_000_000, "")
    async with http.put("/v1/blobs/empty", data=b"") as answer:
        assert (await answer.json())["length"] == 0


async def test_upload_larger_than_its_route_allows_is_413_at_once(gateway: Gateway) -> None:
    """The announced length is enough to refuse it; nothing is read."""
    head = "PUT /v1/blobs/huge HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
    answer = await gateway.raw(f"{head}content-length: {64 * 1024 * 1024 + 1}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "TOO_LARGE"


async def test_error_of_the_server_ends_an_upload(http: aiohttp.ClientSession) -> None:
    """A server need not read to the end to refuse."""
    async with http.put("/v1/blobs/refused", data=b"r" * 100_000) as answer:
        assert (answer.status, await answer.json()) == (413, {"error": "too large", "status": 413, "code": "TOO_LARGE"})


async def test_webhook_bytes_arrive_untouched_whatever_their_type(http: aiohttp.ClientSession) -> None:
    """A signature covers the bytes, so nothing may parse and print them again."""
    content = b'{"b" : 1,\n "a":\t2}\xff'
    for kind in ("application/json", "text/xml", "application/x-www-form-urlencoded"):
        async with http.post("/v1/hooks/push", data=content, headers={"content-type": kind}) as answer:
            body = await answer.json()
            assert (body["sha256"], body["content_type"]) == (hashlib.sha256(content).hexdigest(), kind)


async def test_download_has_the_length_the_server_announces(http: aiohttp.ClientSession) -> None:
    """x-content-length becomes content-length, so that a client can show progress and notice a cut."""
    async with http.get("/v1/blobs/a", params={"size": "3000000"}) as answer:
        assert answer.headers["content-length"] == "3000000"
        assert "transfer-encoding" not in answer.headers
        assert "x-content-length" not in answer.headers
        assert len(await answer.read()) == 3_000_000


async def test_range_request_is_206_when_the_server_says_so(http: aiohttp.ClientSession) -> None:
    """The Range header reaches the server; status and Content-Range come from it."""
    async with http.get("/v1/blobs/a", params={"size": "10"}, headers={"range": "bytes=0-9"}) as answer:
        assert (answer.status, answer.headers["content-range"]) == (206, "bytes 0-9/20")
        assert len(await answer.read()) == 10
