"""Attach: messages in, events out, on one stream. Over a WebSocket through the gateway, and over native gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import grpc as grpc_api
import pytest
from codeyard.sessions.v1 import event_pb2
from codeyard.sessions.v1 import session_service_pb2 as pb
from google.protobuf import json_format

from tests.support.answers import Answer, check_error, send
from tests.support.client import Rest, rest
from tests.support.grpc_client import reason
from tests.support.yard import Yard, fresh_yard

ATTACH = "/codeyard.sessions.v1.SessionService/Attach"
PATIENCE = 30
MESSAGE = {"message": {"content": [{"type": "text", "text": "Hello"}]}}

Socket = aiohttp.ClientWebSocketResponse[Any]
Call = grpc_api.aio.StreamStreamCall[pb.AttachRequest, event_pb2.Event]


@pytest.fixture
async def session(client: Rest) -> str:
    """The path of a new session whose model answers with what it was told."""
    return await client.new_session(await client.agent(default_model_id=await client.model("llmsim-echo")))


@contextlib.asynccontextmanager
async def attach(
    client: Rest, session: str, since: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Socket]:
    """Open a socket to a session; headers take the place of the credential."""
    query = "" if since is None else f"?since_id={since}"
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as browser,
        browser.ws_connect(
            f"{client.yard.url}{session}/attach{query}",
            headers=client.yard.headers if headers is None else headers,
            **options,
        ) as socket,
    ):
        yield socket


async def read(socket: Socket, until: str) -> list[str]:
    """Return the frames up to the first event of a type, as they came."""
    frames: list[str] = []
    while not frames or json.loads(frames[-1])["type"] != until:
        frames.append(await socket.receive_str())
    return frames


async def closed(socket: Socket) -> tuple[int | None, str]:
    """Read to the end; return the code and the text of the close frame."""
    while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
        pass
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    await socket.close()
    return message.data, message.extra or ""


def stored(frames: list[str]) -> list[dict[str, Any]]:
    """Return the stored events among the frames; live-only ones have no id."""
    events = [json.loads(frame) for frame in frames]
    return [event for event in events if "id" in event]


async def test_attached_client_sends_a_message_and_reads_the_turn_to_its_end(client: Rest, session: str) -> None:
    """One socket holds the whole conversation, and a second message goes on where the first ended."""
    async with attach(client, session) as socket:
        await socket.send_json(MESSAGE)
        events = stored(await read(socket, "turn.completed"))
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        (answer,) = [event["data"]["message"] for event in events if event["type"] == "message.agent"]
        assert answer["content"] == [{"type": "text", "text": "Echo: Hello"}]
        await read(socket, "session.idled")
        await socket.send_json(MESSAGE)
        again = stored(await read(socket, "session.idled"))
        assert again[0]["type"] == "message.user"
        assert again[0]["sequence"] > events[-1]["sequence"]


async def test_frames_are_the_data_lines_of_the_event_stream(client: Rest, session: str) -> None:
    """Character for character: there is one printer."""
    async with attach(client, session) as socket:
        await socket.send_json(MESSAGE)
        frames = await read(socket, "session.idled")
    answer = await send(client, "GET", f"{session}/events", headers={"accept": "application/json"})
    items = ",".join(frame for frame in frames if json.loads(frame).get("id"))
    assert f'"items":[{items}]' in answer.body.decode()
    async with client.session.get(f"{client.yard.url}{session}/events") as stream:
        body = b""
        async for chunk in stream.content.iter_any():
            body += chunk
            if b"event: session.idled\n" in body and body.endswith(b"\n\n"):
                break
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines == [frame for frame in frames if json.loads(frame).get("id")]


async def test_reconnect_goes_on_after_the_cursor(client: Rest, session: str) -> None:
    """Each later event comes exactly once, what was missed and what happens then."""
    async with attach(client, session) as socket:
        await socket.send_json(MESSAGE)
        first = stored(await read(socket, "turn.started"))
    await client.until(f"{session}/events", "session.idled")
    async with attach(client, session, first[-1]["id"]) as socket:
        rest_of_it = stored(await read(socket, "session.idled"))
        await socket.send_json(MESSAGE)
        later = stored(await read(socket, "session.idled"))
    log = (await client.ok("GET", f"{session}/events", accept="application/json"))["items"]
    assert [*first, *rest_of_it, *later] == log


async def test_attached_client_cancels_the_turn(client: Rest) -> None:
    """The turn ends as cancelled, and the socket stays for the next message."""
    session = await client.new_session(await client.agent(default_model_id=await client.model("llmsim-slow")))
    async with attach(client, session) as socket:
        await socket.send_json(MESSAGE)
        await read(socket, "message.delta")
        await socket.send_json({"cancel": {}})
        events = stored(await read(socket, "session.idled"))
        assert [event["data"]["error_code"] for event in events if event["type"] == "turn.failed"] == ["cancelled"]
        await socket.send_json(MESSAGE)
        assert "turn.completed" in {event["type"] for event in stored(await read(socket, "session.idled"))}


async def test_page_gets_in_with_its_credential_among_the_sub_protocols(client: Rest, session: str) -> None:
    """As `new WebSocket(url, ["codeyard.v1", "bearer.<token>"])` does from this yard's own address."""
    offered = ("codeyard.v1", f"bearer.{client.yard.token}")
    async with attach(client, session, headers={"Origin": client.yard.url}, protocols=offered) as socket:
        assert socket.protocol == "codeyard.v1"
        await socket.send_json(MESSAGE)
        await read(socket, "turn.completed")


async def refused(client: Rest, path: str, headers: Mapping[str, str]) -> Answer:
    """Return the answer to an upgrade that is refused."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(client.yard.url + path, headers={**upgrade, **headers}) as answer,
    ):
        return Answer(answer.status, answer.headers.copy(), await answer.read())


@pytest.mark.parametrize(
    ("session_id", "query", "status", "code"),
    [
        (str(uuid.uuid4()), "", 404, "NOT_FOUND"),
        ("7", "", 400, "INVALID_ARGUMENT"),
        (None, f"?since_id={uuid.uuid4()}", 400, "CURSOR_UNKNOWN"),
        (None, "?since_id=7", 400, "INVALID_ARGUMENT"),
        (None, "?since=7", 400, "INVALID_ARGUMENT"),
        (None, f"?session_id={uuid.uuid4()}", 400, "INVALID_ARGUMENT"),
    ],
)
async def test_upgrade_to_what_is_not_there_is_refused_with_an_http_error(
    client: Rest, session: str, session_id: str | None, query: str, status: int, code: str
) -> None:
    """In the flat shape, with a request id, as everywhere."""
    head, _, own = session.rpartition("/")
    path = f"{head}/{session_id or own}/attach{query}"
    check_error(await refused(client, path, client.yard.headers), status, code)


@pytest.mark.parametrize("credential", [None, "Bearer cyk_" + "0" * 64, "Basic eDp5"])
async def test_upgrade_without_a_valid_credential_is_refused(
    client: Rest, session: str, credential: str | None
) -> None:
    """401, in a header or among the sub-protocols."""
    headers = {} if credential is None else {"authorization": credential}
    answer = await refused(client, f"{session}/attach", headers)
    check_error(answer, 401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = await refused(client, f"{session}/attach", {"sec-websocket-protocol": "codeyard.v1, bearer.cyk_0"})
    check_error(answer, 401, "UNAUTHENTICATED")


async def test_upgrade_for_a_foreign_page_is_refused(client: Rest, session: str) -> None:
    """403, although its browser has the credential."""
    headers = {**client.yard.headers, "origin": "https://evil.example"}
    check_error(await refused(client, f"{session}/attach", headers), 403, "PERMISSION_DENIED")


async def test_token_in_the_query_opens_nothing(client: Rest, session: str) -> None:
    """It would end up in logs and histories."""
    path = f"{session}/attach?access_token={client.yard.token}"
    check_error(await refused(client, path, {}), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "frame",
    [
        "nonsense",
        "{}",
        '{"message": {"content": []}}',
        '{"message": {"content": [{"type": "text"}]}}',
        '{"message": {"content": [{"type": "text", "text": "x"}], "metadata": [1]}}',
        '{"start": {}}',
    ],
)
async def test_bad_frame_closes_with_4400(client: Rest, session: str, frame: str) -> None:
    """What cannot be read, what breaks a bound, and a second start; nothing of it is stored."""
    async with attach(client, session) as socket:
        await socket.send_str(frame)
        code, text = await closed(socket)
        assert code == 4400
        assert text.startswith("INVALID_ARGUMENT: ")
    assert (await client.ok("GET", f"{session}/events", accept="application/json"))["total"] == 0


async def test_deleted_session_closes_with_1000(client: Rest, session: str) -> None:
    """The stream ends, it does not fail."""
    async with attach(client, session) as socket:
        await socket.send_json(MESSAGE)
        await read(socket, "session.idled")
        await client.ok("DELETE", session)
        assert await closed(socket) == (1000, "")


async def test_several_clients_are_attached_to_one_session(client: Rest, session: str) -> None:
    """Whoever sends, all see the same, through any process."""
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(attach(client, session)) for _ in range(6)]
        await sockets[0].send_json(MESSAGE)
        logs = await asyncio.gather(*(read(socket, "session.idled") for socket in sockets))
        assert all(stored(log) == stored(logs[0]) for log in logs)


async def test_restart_of_a_server_closes_with_1012_and_the_client_comes_back_to_another() -> None:
    """It resumes at its cursor."""
    for yard in fresh_yard():
        async with rest(yard) as client, contextlib.AsyncExitStack() as stack:
            session = await client.new_session(await client.agent())
            sockets = [await stack.enter_async_context(attach(client, session)) for _ in range(4)]
            await sockets[0].send_json(MESSAGE)
            logs = [stored(await read(socket, "session.idled")) for socket in sockets]
            os.kill(yard.pid("server-0"), signal.SIGTERM)
            ends = [asyncio.create_task(closed(socket)) for socket in sockets]
            done, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result() for task in done} == {(1012, "The server restarts")}
            async with attach(client, session, logs[0][-1]["id"]) as again:
                await again.send_json(MESSAGE)
                later = stored(await read(again, "session.idled"))
            log = (await client.ok("GET", f"{session}/events", accept="application/json"))["items"]
            assert [*logs[0], *later] == log
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)


# Native gRPC


@contextlib.asynccontextmanager
async def attach_typed(yard: Yard, *requests: pb.AttachRequest) -> AsyncIterator[Call]:
    """Open the typed stream, send requests, cancel it at the end."""
    async with asyncio.timeout(PATIENCE), grpc_api.aio.insecure_channel(f"127.0.0.1:{yard.port}") as channel:
        method = channel.stream_stream(ATTACH, pb.AttachRequest.SerializeToString, event_pb2.Event.FromString)
        call: Call = method(None, metadata=tuple(yard.headers.items()))
        try:
            for request in requests:
                await call.write(request)
            yield call
        finally:
            call.cancel()


def start(session: str, since: str | None = None) -> pb.AttachRequest:
    """Return the opening step."""
    _, _, _, agent_id, _, session_id = session.split("/")
    return pb.AttachRequest(start={"agent_id": agent_id, "session_id": session_id, "since_id": since})


def say() -> pb.AttachRequest:
    """Return the step that sends the message."""
    return json_format.ParseDict(MESSAGE, pb.AttachRequest())


async def read_typed(call: Call, until: str) -> list[event_pb2.Event]:
    """Return the events up to the first of a type."""
    events: list[event_pb2.Event] = []
    while not events or events[-1].type != until:
        event = await call.read()
        assert isinstance(event, event_pb2.Event), events
        events.append(event)
    return events


async def test_typed_client_sends_a_message_and_reads_the_turn_to_its_end(client: Rest, session: str) -> None:
    """The events are those of the log, with typed payloads."""
    async with attach_typed(client.yard, start(session), say()) as call:
        events = await read_typed(call, "session.idled")
    log = (await client.ok("GET", f"{session}/events", accept="application/json"))["items"]
    assert [event.id for event in events if event.id] == [event["id"] for event in log]
    (answer,) = [event.message_agent.message for event in events if event.type == "message.agent"]
    assert answer.content[0].text == "Echo: Hello"


async def test_typed_client_learns_that_it_is_attached_before_anything_happens(client: Rest, session: str) -> None:
    """The initial metadata comes at once; in a new session there is no event to wait for."""
    async with attach_typed(client.yard, start(session)) as call:
        await call.initial_metadata()
        assert not call.done()


async def test_typed_reconnect_goes_on_after_the_cursor(client: Rest, session: str) -> None:
    """Each later event comes exactly once."""
    async with attach_typed(client.yard, start(session), say()) as call:
        first = [event.id for event in await read_typed(call, "turn.started") if event.id]
    async with attach_typed(client.yard, start(session, first[-1])) as call:
        later = [event.id for event in await read_typed(call, "session.idled") if event.id]
    log = (await client.ok("GET", f"{session}/events", accept="application/json"))["items"]
    assert [*first, *later] == [event["id"] for event in log]


async def test_typed_client_cancels_the_turn(client: Rest) -> None:
    """The turn ends as cancelled."""
    session = await client.new_session(await client.agent(default_model_id=await client.model("llmsim-slow")))
    async with attach_typed(client.yard, start(session), say()) as call:
        await read_typed(call, "message.delta")
        await call.write(pb.AttachRequest(cancel={}))
        events = await read_typed(call, "session.idled")
    assert [event.turn_failed.error_code for event in events if event.type == "turn.failed"] == ["cancelled"]


async def test_typed_stream_goes_on_after_the_client_has_said_all(client: Rest, session: str) -> None:
    """Half-closing ends the messages, not the events; deleting the session ends the stream."""
    async with attach_typed(client.yard, start(session), say()) as call:
        await call.done_writing()
        await read_typed(call, "session.idled")
        await client.ok("DELETE", session)
        assert not isinstance(await call.read(), event_pb2.Event)
        assert await call.code() is grpc_api.StatusCode.OK


async def test_typed_stream_that_begins_with_a_message_is_refused(client: Rest) -> None:
    """The first request must be a start."""
    async with attach_typed(client.yard, say()) as call:
        with pytest.raises(grpc_api.aio.AioRpcError) as failure:
            await call.read()
    assert failure.value.code() is grpc_api.StatusCode.INVALID_ARGUMENT
    assert reason(failure.value) == "INVALID_ARGUMENT"
