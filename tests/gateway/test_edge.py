"""The WebSocket edge: who gets in, what goes through, how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
import structlog
from aiohttp import WSMsgType
from codeyard_gateway.edge import Edge, EdgeSettings
from multidict import CIMultiDict

from tests.gateway import sockets as support
from tests.gateway.sockets import BEARER, HALL, ROOM, TOKEN, Sockets, accept, fail, metadata_of, say

ORIGIN = "https://app.example.com"


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    """The edge with its defaults."""
    async with support.sockets(allowed_origins=(ORIGIN,), allowed_hosts=("*.example.com",)) as running:
        yield running


async def closed(websocket: aiohttp.ClientWebSocketResponse[Any]) -> tuple[int | None, str]:
    """Read to the end; return the code and the text of the close frame, None when the connection just ended."""
    while True:
        message = await websocket.receive()
        if message.type is WSMsgType.CLOSE:
            await websocket.close()
            return message.data, message.extra or ""
        if message.type in (WSMsgType.CLOSED, WSMsgType.ERROR):
            return None, ""


# What goes through


async def test_socket_opens_with_the_path_and_the_query_in_the_first_message(sockets: Sockets) -> None:
    """Parameters fill the start by proto name or JSON name, decoded once, in their own types."""

    async def tell(requests: AsyncIterator[Any], context: support.Context) -> None:
        start = (await anext(requests)).start
        await accept(context)
        await say(context, [start.room_id, start.since_id, start.page_size, start.quiet, start.HasField("since_id")])

    sockets.handler = tell
    async with sockets.open("/v1/rooms/a%2Fb%20c/talk?since_id=x+y&page_size=7&quiet=true") as websocket:
        assert await websocket.receive_json() == ["a/b c", "x y", 7, True, True]
    async with sockets.open(ROOM) as websocket:
        assert await websocket.receive_json() == ["blue", "", 0, False, False]


async def test_frames_are_messages_in_both_directions(sockets: Sockets) -> None:
    """Each frame is one request, in order; unknown members are passed over; each document is one frame, untouched."""
    async with sockets.open() as websocket:
        assert await websocket.receive_json() == {"echo": ""}
        for number in range(50):
            await websocket.send_json({"text_line": f"№ {number}", "unknown": [{}]})
        for number in range(50):
            assert await websocket.receive_json() == {"echo": f"№ {number}"}


async def test_documents_go_out_before_any_frame_comes_in(sockets: Sockets) -> None:
    """Neither direction waits for the other, and a large document is one frame."""

    async def talk_first(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        await say(context, "x" * 3_000_000)
        await anext(requests)
        async for request in requests:
            await say(context, request.text_line)

    sockets.handler = talk_first
    async with sockets.open(max_msg_size=0) as websocket:
        assert len(await websocket.receive_json()) == 3_000_000
        await websocket.send_json({"text_line": "yes"})
        assert await websocket.receive_json() == "yes"


async def test_socket_of_a_camel_case_method_without_a_start(sockets: Sockets) -> None:
    """The parameters are in the first message itself, and member names follow the service's casing."""

    async def tell(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        async for request in requests:
            await say(context, [request.hall_id, request.text_line])

    sockets.handler = tell
    async with sockets.open(HALL + "?textLine=hello") as websocket:
        assert await websocket.receive_json() == ["north", "hello"]
        await websocket.send_json({"textLine": "again"})
        assert await websocket.receive_json() == ["", "again"]


# Who gets in


async def received_metadata(
    sockets: Sockets, headers: dict[str, str], path: str = ROOM, protocols: tuple[str, ...] = ()
) -> tuple[dict[str, Any], str | None]:
    """Return the metadata that the server received for an upgrade, and the sub-protocol of the answer."""

    async def tell(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        await say(context, {key: value for key, value in metadata_of(context).items() if isinstance(value, str)})

    sockets.handler = tell
    async with sockets.open(path, headers, protocols=protocols) as websocket:
        metadata: dict[str, Any] = await websocket.receive_json()
        return metadata, websocket.protocol


async def test_credential_in_the_authorization_header_reaches_the_server(sockets: Sockets) -> None:
    """As it is; and without sub-protocols on offer the answer names none."""
    metadata, protocol = await received_metadata(sockets, {"Authorization": "ApiKey abc"})
    assert metadata["authorization"] == "ApiKey abc"
    assert protocol is None


async def test_credential_among_the_sub_protocols_reaches_the_server_and_is_not_sent_back(sockets: Sockets) -> None:
    """The answer names codeyard.v1 only; the offered credential wins over a header that a browser added by itself."""
    offered = (f"bearer.{TOKEN}", "codeyard.v1")
    metadata, protocol = await received_metadata(sockets, {}, protocols=offered)
    assert (metadata["authorization"], protocol) == (f"Bearer {TOKEN}", "codeyard.v1")
    metadata, _ = await received_metadata(sockets, {"Authorization": "Basic eDp5"}, protocols=offered)
    assert metadata["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "offer",
    [
        f"bearer.{TOKEN}",
        f"chat, bearer.{TOKEN}",
        f"codeyard.v1, bearer.{TOKEN}, bearer.other",
        "codeyard.v1, bearer.",
        "codeyard.v1, bearer.a\u00e9",
    ],
)
async def test_sub_protocols_that_are_not_ours_are_refused_without_a_trace_of_the_credential(
    sockets: Sockets, caplog: pytest.LogCaptureFixture, offer: str
) -> None:
    """400 without a call; neither the answer nor any log quotes what was offered."""
    caplog.set_level(logging.DEBUG)
    response = await sockets.refused(headers={"Sec-WebSocket-Protocol": offer})
    body = await response.json()
    assert (response.status, body["status"], body["code"]) == (400, 400, "INVALID_ARGUMENT")
    assert sockets.calls == 0
    assert TOKEN not in json.dumps(body) + caplog.text


async def test_credential_in_the_query_is_none(sockets: Sockets) -> None:
    """A token in the query opens nothing: it is an unknown parameter."""
    for name in ("token", "access_token", "authorization", "bearer"):
        response = await sockets.refused(f"{ROOM}?{name}={TOKEN}", headers={})
        assert response.status == 400
    assert sockets.calls == 0


@pytest.mark.parametrize(("sent", "seen"), [("req-1.A_b", "req-1.A_b"), ("a b", None), ("x" * 129, None), ("é", None)])
async def test_request_id_reaches_the_server_when_it_is_sane(sockets: Sockets, sent: str, seen: str | None) -> None:
    """Anything else stays outside."""
    metadata, _ = await received_metadata(sockets, {"X-Request-Id": sent})
    assert metadata.get("x-request-id") == seen


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost"),
        ("localhost", "https://localhost"),
        ("localhost:8080", "http://localhost:8080"),
        ("yard.example.com:443", "https://yard.example.com"),
        ("Yard.Example.com", "https://yard.example.com:443"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost", ORIGIN),
        ("localhost", ORIGIN.upper()),
    ],
)
async def test_pages_of_this_host_and_allowed_ones_get_in(sockets: Sockets, host: str, origin: str) -> None:
    """The page's origin is the host itself, ports compared as browsers write them, or it is on the list."""
    async with sockets.open(headers={**BEARER, "Host": host, "Origin": origin}) as websocket:
        await websocket.send_json({"text_line": "in"})
        assert await websocket.receive_json() == {"echo": ""}
        assert await websocket.receive_json() == {"echo": "in"}


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "https://evil.example"),
        ("localhost", "null"),
        ("localhost", ""),
        ("localhost", "http://localhost:8080"),
        ("localhost:8080", "http://localhost"),
        ("yard.example.com:80", "https://yard.example.com"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "http://user@localhost"),
        ("localhost", "http://localhost/"),
        ("localhost", "ftp://localhost"),
        ("localhost", f"{ORIGIN}:8443"),
    ],
)
async def test_pages_of_other_origins_are_refused_before_the_upgrade(sockets: Sockets, host: str, origin: str) -> None:
    """403 without a call, whatever credential the page has."""
    response = await sockets.refused(headers={**BEARER, "Host": host, "Origin": origin})
    assert (response.status, (await response.json())["code"]) == (403, "PERMISSION_DENIED")
    assert sockets.calls == 0


async def test_two_origins_are_none(sockets: Sockets) -> None:
    """403: which of them the browser meant, nobody knows."""
    headers = CIMultiDict([*BEARER.items(), ("Origin", ORIGIN), ("Origin", "https://evil.example")])
    assert (await sockets.refused(headers=headers)).status == 403


@pytest.mark.parametrize("host", ["evil.example", "example.com", "localhost.evil.example", "a@localhost", "", "[::1"])
async def test_unknown_hosts_are_refused(sockets: Sockets, host: str) -> None:
    """421: a page whose own name was made to point here is its own origin, but not our host."""
    response = await sockets.refused(headers={**BEARER, "Host": host, "Origin": f"http://{host}"})
    assert (response.status, (await response.json())["code"]) == (421, "HOST_UNKNOWN")
    assert sockets.calls == 0


async def test_sockets_over_the_limit_are_refused_until_one_ends() -> None:
    """503 with Retry-After; a place that becomes free is given again."""
    async with support.sockets(max_sockets=2) as sockets, sockets.open() as first, sockets.open() as second:
        response = await sockets.refused()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["code"] == "UNAVAILABLE"
        assert sockets.calls == 2
        await first.close()
        assert await sockets.was_cancelled()
        async with sockets.open() as third:
            await third.send_json({"text_line": "3"})
            await third.receive_json()
        assert not second.closed


# Refusals before the upgrade


async def test_plain_get_on_a_socket_is_told_to_upgrade(sockets: Sockets) -> None:
    """426 in JSON, with the headers that say to what; the same for an old version of the protocol."""
    async with sockets.client.get(ROOM, headers=BEARER) as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"
        assert (await response.json())["status"] == 426
    response = await sockets.refused(headers={**BEARER, "Sec-WebSocket-Version": "8"})
    assert (response.status, response.headers["Sec-WebSocket-Version"]) == (426, "13")
    response = await sockets.refused(headers={**BEARER, "Sec-WebSocket-Key": "short"})
    assert response.status == 400
    assert sockets.calls == 0


async def test_unknown_paths_and_verbs_are_refused_in_json(sockets: Sockets) -> None:
    """404 ROUTE_NOT_FOUND; 405 with Allow."""
    for path in ("/", "/v1/rooms/blue", "/v1/rooms/blue/talk/", "/v1/rooms/a/b/talk", "/v1/rooms//talk"):
        async with sockets.client.get(path) as response:
            assert (response.status, (await response.json())["code"]) == (404, "ROUTE_NOT_FOUND")
    async with sockets.client.post(ROOM, json={}) as response:
        assert (response.status, (await response.json())["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "query", ["room_id=red", "roomId=red", "page_size=many", "page_size=1&page_size=2", "quiet=maybe", "tags=a", "x=1"]
)
async def test_parameters_that_do_not_fit_are_refused(sockets: Sockets, query: str) -> None:
    """400 without a call: nothing overrides the path, and a misspelt cursor does not mean "from the first"."""
    response = await sockets.refused(f"{ROOM}?{query}")
    assert (response.status, (await response.json())["code"]) == (400, "INVALID_ARGUMENT")
    assert sockets.calls == 0


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
        (grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND"),
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "CURSOR_UNKNOWN"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "RATE_LIMITED"),
        (grpc.StatusCode.UNAVAILABLE, 503, "UNAVAILABLE"),
    ],
)
async def test_what_the_server_refuses_is_an_http_error(
    sockets: Sockets, code: grpc.StatusCode, status: int, reason: str
) -> None:
    """Status and finished body are the server's, also when it is as long as one may be; its headers pass."""

    async def refuse(requests: AsyncIterator[Any], context: support.Context) -> None:
        await anext(requests)
        headers = {"retry-after": "7", "www-authenticate": "Bearer", "x-internal": "no"}
        await fail(context, code, status, reason, "é" * 1300, **headers)

    sockets.handler = refuse
    response = await sockets.refused()
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    assert await response.json() == {"error": "é" * 1300, "status": status, "code": reason}
    assert (response.headers["Retry-After"], response.headers["WWW-Authenticate"]) == ("7", "Bearer")
    assert "x-internal" not in response.headers


async def test_refusal_that_crosses_the_first_message_is_still_the_servers(sockets: Sockets) -> None:
    """The server refuses a caller without a credential before it reads anything; that is a 401 every time."""

    async def refuse(requests: AsyncIterator[Any], context: support.Context) -> None:
        await fail(context, grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED", "no")

    sockets.handler = refuse
    for _ in range(20):
        statuses = [response.status for response in await asyncio.gather(*(sockets.refused() for _ in range(20)))]
        assert statuses == [401] * 20


async def test_failures_without_a_word_of_the_server_show_nothing_of_the_inside(sockets: Sockets) -> None:
    """A crash is a 500 with a fixed text, in the shape of the family."""

    async def crash(requests: AsyncIterator[Any], context: support.Context) -> None:
        raise RuntimeError("secret of the server")

    sockets.handler = crash
    response = await sockets.refused()
    assert response.status == 500
    assert await response.json() == {"error": "The server failed to answer.", "status": 500, "code": "INTERNAL"}
    response = await sockets.refused(HALL)
    assert response.status == 500
    assert await response.json() == {"error": {"code": "INTERNAL", "message": "The server failed to answer."}}


async def test_call_that_ends_before_it_was_accepted_is_a_fault(sockets: Sockets) -> None:
    """An OK without acceptance opens no socket."""

    async def end(requests: AsyncIterator[Any], context: support.Context) -> None:
        await anext(requests)

    sockets.handler = end
    assert (await sockets.refused()).status == 500


async def test_server_that_does_not_answer_is_a_timeout_and_its_call_is_cancelled() -> None:
    """504 after the time that opening may take."""

    async def wait(requests: AsyncIterator[Any], context: support.Context) -> None:
        await asyncio.Event().wait()

    async with support.sockets(open_seconds=0.2) as sockets:
        sockets.handler = wait
        response = await sockets.refused()
        assert (response.status, (await response.json())["code"]) == (504, "DEADLINE_EXCEEDED")
        assert await sockets.was_cancelled()


async def test_server_that_is_down_is_unavailable(sockets: Sockets) -> None:
    """503, at once."""
    await sockets.server.stop(None)
    response = await sockets.refused()
    assert (response.status, (await response.json())["code"]) == (503, "UNAVAILABLE")


# How it ends


async def test_end_of_the_stream_closes_with_1000_after_its_last_document(sockets: Sockets) -> None:
    """Nothing that the server sent is lost."""

    async def count(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        for number in range(200):
            await say(context, number)

    sockets.handler = count
    async with sockets.open() as websocket:
        assert [await websocket.receive_json() for _ in range(200)] == list(range(200))
        assert await closed(websocket) == (1000, "")


async def test_failing_call_closes_with_its_status_and_as_much_of_its_text_as_fits(sockets: Sockets) -> None:
    """4000 plus the HTTP status; the text begins with the reason and is cut between two characters."""

    async def refuse(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        await fail(context, grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND", "☃" * 100)

    sockets.handler = refuse
    async with sockets.open() as websocket:
        assert await closed(websocket) == (4404, "NOT_FOUND: " + "☃" * 37)


async def test_crashing_call_closes_with_4500_and_shows_nothing_of_the_inside(sockets: Sockets) -> None:
    """The text is fixed."""

    async def crash(requests: AsyncIterator[Any], context: support.Context) -> None:
        await accept(context)
        raise RuntimeError("secret of the server")

    sockets.handler = crash
    async with sockets.open() as websocket:
        assert await closed(websocket) == (4500, "INTERNAL: The server failed to answer.")


async def test_failure_that_crosses_a_frame_closes_with_its_own_status(sockets: Sockets) -> None:
    """Whoever sends at the moment at which the call fails learns why it failed."""

    async def refuse(requests: AsyncIterator[Any], context: support.Context) -> None:
        await anext(requests)
        await accept(context)
        await anext(requests)
        await fail(context, grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND", "gone")

    sockets.handler = refuse
    for _ in range(50):
        async with sockets.open() as websocket:
            for _ in range(20):
                await websocket.send_json({"text_line": "x"})
            assert await closed(websocket) == (4404, "NOT_FOUND: gone")


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff",
        b'{"text_line": "\xff"}',
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        '"text"',
        '{"text_line": 7}',
        '{"text_line": "a", "data": {}}',
        '{"text_line": "\\ud800"}',
        '{"data": ' + '{"a":' * 2000 + "0" + "}" * 2000 + "}",
        '{"data": {"a": ' + "[" * 90 + "]" * 90 + "}}",
    ],
)
async def test_frame_that_cannot_be_read_closes_with_4400(sockets: Sockets, frame: str | bytes) -> None:
    """Not UTF-8, not JSON, no object, a wrong type, two actions, half a character, too deep: the call is cancelled."""
    async with sockets.open() as websocket:
        await websocket.send_frame(frame.encode() if isinstance(frame, str) else frame, WSMsgType.TEXT)
        code, text = await closed(websocket)
        assert code == 4400
        assert text.startswith("INVALID_ARGUMENT: The frame ")
        assert len(text.encode()) <= 123
        assert await sockets.was_cancelled()


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        (WSMsgType.BINARY, b"{}", 1003),
        (WSMsgType.TEXT, b" " * (2 * 1024 * 1024 + 1), 1009),
    ],
)
async def test_frame_that_the_edge_does_not_take_closes_with_its_code(
    sockets: Sockets, kind: WSMsgType, content: bytes, code: int
) -> None:
    """Binary, too large."""
    async with sockets.open() as websocket:
        await websocket.send_frame(content, kind)
        assert (await closed(websocket))[0] == code
        assert await sockets.was_cancelled()


async def test_largest_frame_passes(sockets: Sockets) -> None:
    """Two mebibytes exactly."""
    frame = json.dumps({"text_line": ""})
    frame = json.dumps({"text_line": "x" * (2 * 1024 * 1024 - len(frame))})
    async with sockets.open(max_msg_size=0) as websocket:
        await websocket.receive_json()
        await websocket.send_str(frame)
        assert len((await websocket.receive_json())["echo"]) > 2_000_000


@pytest.mark.parametrize(("sent", "logged"), [(1000, 1000), (1001, 1001), (4777, 4777)])
async def test_close_of_the_client_cancels_the_call_and_its_code_is_logged_and_returned(
    sockets: Sockets, sent: int, logged: int
) -> None:
    """The log names who ended the socket and how, and never the credential."""
    with structlog.testing.capture_logs() as logs:
        async with sockets.open(headers={**BEARER, "X-Request-Id": "r-1"}, autoclose=False) as websocket:
            await websocket.receive_json()
            await websocket.close(code=sent)
            assert websocket.close_code == sent
        assert await sockets.was_cancelled()
        await sockets.edge.stop()
    (entry,) = [entry for entry in logs if entry["event"] == "socket.closed"]
    assert (entry["by"], entry["code"], entry["request_id"]) == ("client", logged, "r-1")
    assert TOKEN not in repr(logs)


async def test_client_that_vanishes_cancels_the_call(sockets: Sockets) -> None:
    """Without a close frame, as when its process is killed."""
    with structlog.testing.capture_logs() as logs:
        async with sockets.open_raw():
            pass
        assert await sockets.was_cancelled()
        await sockets.edge.stop()
    (entry,) = [entry for entry in logs if entry["event"] == "socket.closed"]
    assert (entry["by"], entry["code"]) == ("network", 1006)


async def test_stop_closes_every_socket_with_1012_and_refuses_new_ones(sockets: Sockets) -> None:
    """Clients learn that they may come back."""
    async with sockets.open() as first, sockets.open() as second:
        stopping = asyncio.create_task(sockets.edge.stop())
        assert await closed(first) == (1012, "The server restarts")
        assert await closed(second) == (1012, "The server restarts")
        await stopping
        with pytest.raises(aiohttp.ClientError):
            await sockets.refused()


async def test_server_that_goes_away_closes_with_1012(sockets: Sockets) -> None:
    """A call that was cut off is no answer of the server: the client may come back."""
    async with sockets.open() as websocket:
        await websocket.receive_json()
        await sockets.server.stop(None)
        assert (await closed(websocket))[0] == 1012


async def test_edge_listens_on_tcp_as_well() -> None:
    """host:port, with a port that the system chooses."""
    async with support.sockets() as sockets:
        settings = EdgeSettings(address="127.0.0.1:0", server=sockets.edge.settings.server)
        edge = Edge(settings, support.socket_image())
        await edge.start()
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"http://{edge.address}{ROOM}", headers=BEARER) as websocket,
        ):
            assert await websocket.receive_json() == {"echo": ""}
            stopping = asyncio.create_task(edge.stop())
            assert (await closed(websocket))[0] == 1012
            await stopping
