"""WebSockets go through to the edge; everything else on their paths does not."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.gateway.gateway import Gateway

PATH = "/v1/things/a/attach"
CREDENTIAL = {"authorization": "Bearer t"}


async def test_frames_pass_in_both_directions(http: aiohttp.ClientSession) -> None:
    """Text and 1 MiB of bytes; sub-protocol, path parameter and request id reach the edge."""
    headers = CREDENTIAL | {"x-request-id": "my-id"}
    async with http.ws_connect(
        "/v1/things/a%2Fb/attach", headers=headers, protocols=["yard"], max_msg_size=0
    ) as socket:
        assert socket.protocol == "yard"
        assert await socket.receive_json() == {"id": "a/b", "request_id": "my-id"}
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.send_bytes(b"b" * 1_048_576)
        assert await socket.receive_bytes() == b"b" * 1_048_576


async def test_close_code_of_the_edge_reaches_the_client(http: aiohttp.ClientSession) -> None:
    """With its reason."""
    async with http.ws_connect(PATH, headers=CREDENTIAL) as socket:
        await socket.receive_json()
        await socket.send_str("close")
        closing = await socket.receive()
        assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "asked to")


async def test_error_of_the_edge_passes_as_it_is(http: aiohttp.ClientSession) -> None:
    """The edge renders its own errors."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(PATH)
    assert refused.value.status == 401


async def test_upgrade_where_no_socket_is_gets_404(gateway: Gateway) -> None:
    """Envoy would say 403. It refuses before it knows the family of the path, so the shape is always flat."""
    for path in ("/v1/things/a", "/v1/nothing", "/v2/nested"):
        request = (
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head, _, body = (await gateway.raw(request.encode())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert json.loads(body)["code"] == "ROUTE_NOT_FOUND"


async def test_plain_request_on_a_socket_path_is_refused_by_the_gateway(http: aiohttp.ClientSession) -> None:
    """The edge sees upgrades only."""
    async with http.get(PATH, headers=CREDENTIAL) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "INVALID_ARGUMENT")
    async with http.post(PATH, json={}, headers=CREDENTIAL) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost", 101),
        ("https://app.example.com", 101),
    ],
)
async def test_socket_of_a_foreign_page_is_refused(http: aiohttp.ClientSession, origin: str, status: int) -> None:
    """CORS does not cover sockets: the browser sends cookies and asks nobody."""
    headers = CREDENTIAL | {"origin": origin, "host": "localhost"}
    if status == 101:
        async with http.ws_connect(PATH, headers=headers) as socket:
            assert (await socket.receive_json())["id"] == "a"
    else:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(PATH, headers=headers)
        assert refused.value.status == status
