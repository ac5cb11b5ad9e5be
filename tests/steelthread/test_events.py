"""The event log of a session: as JSON, as server-sent events and typed; cursors, frames, live pieces, readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from typing import Any

import pytest
from google.protobuf import json_format

from tests.support.answers import Answer, check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc

pytestmark = pytest.mark.usefixtures("no_faults")

LIST = "/codeyard.sessions.v1.EventService/ListEvents"
SUBSCRIBE = "/codeyard.sessions.v1.EventService/Subscribe"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
FRAME = re.compile(rf"event: [a-z_.]+\n(id: {UUID}\n)?data: \{{[^\n]*\}}\n\n|:\n\n")


@pytest.fixture
async def session(client: Rest) -> str:
    """The path of a session in which one turn with tools has ended."""
    agent = await client.agent(capabilities=["current_time"], default_model_id=await client.model("llmsim-tools"))
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "time?", "tags": ["first"], "metadata": {"a": 1.0}})
    await client.until(f"{session}/events", "session.idled")
    return session


def ids_of(session: str) -> dict[str, str]:
    """Return the members that name a session in a request."""
    return dict(zip(("agent_id", "session_id"), session.split("/")[3::2], strict=True))


async def listed(client: Rest, session: str, query: str = "") -> dict[str, Any]:
    """Return the answer of the JSON list."""
    return dict(await client.ok("GET", f"{session}/events{query}", accept="application/json"))


async def raw_stream(client: Rest, path: str, end: str, **headers: str) -> Answer:
    """Return a stream's status and headers, and its bytes up to the end of the first frame of a type."""
    async with client.session.get(client.yard.url + path, headers=headers) as answer:
        body = b""
        async for chunk in answer.content.iter_any():
            body += chunk
            if re.search(rf"event: {re.escape(end)}\n[^\0]*\n\n".encode(), body):
                break
        return Answer(answer.status, answer.headers.copy(), body)


async def test_json_list_holds_whole_events_in_order(client: Rest, session: str) -> None:
    """The envelope, sequences from 1 without a gap, growing ids, always a context."""
    answer = await listed(client, session)
    assert answer["items"] == answer["data"]
    assert answer["total"] == len(answer["items"])
    assert [event["sequence"] for event in answer["items"]] == list(range(1, answer["total"] + 1))
    ids = [event["id"] for event in answer["items"]]
    assert ids == sorted(set(ids))
    for event in answer["items"]:
        assert event.keys() == {"id", "type", "ts", "session_id", "context", "data", "tags", "sequence"}
        assert event["session_id"] == session.rsplit("/", 1)[1]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["ts"])
        assert isinstance(event["data"], dict)
    first, *others = answer["items"]
    assert (first["context"], first["tags"]) == ({}, ["first"])
    for event in others:
        assert event["context"].keys() == {"turn_id", "input_message_id", "exec_id"}
        assert event["context"]["input_message_id"] == first["data"]["message"]["id"]
    assert len({event["context"]["turn_id"] for event in others}) == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("text/html", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
    ],
)
async def test_accept_chooses_between_stream_and_list(
    client: Rest, session: str, accept: str | None, kind: str
) -> None:
    """JSON only when it is asked for and no event stream is; anything else streams."""
    headers = {} if accept is None else {"accept": accept}
    skip = ("accept",) if accept is None else ()
    async with client.session.get(
        f"{client.yard.url}{session}/events", headers=headers, skip_auto_headers=skip
    ) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == kind
        assert answer.headers["x-request-id"]
        if kind == "text/event-stream":
            assert answer.headers["cache-control"] == "no-cache"


async def test_stream_sends_each_stored_event_as_one_frame(client: Rest, session: str) -> None:
    """First a comment, then event, id and data lines; the data is the event's JSON, character for character."""
    answer = await raw_stream(client, f"{session}/events", "session.idled")
    text = answer.body.decode()
    assert FRAME.sub("", text) == ""
    assert text.startswith(":\n\n")
    raw = await send(client, "GET", f"{session}/events", headers={"accept": "application/json"})
    events = raw.json["items"]
    frames = [frame for frame in text.split("\n\n") if frame.startswith("event: ")]
    assert len(frames) == len(events)
    for frame, event in zip(frames, events, strict=True):
        name, cursor, data = frame.split("\n")
        assert name == f"event: {event['type']}"
        assert cursor == f"id: {event['id']}"
        assert json.loads(data.removeprefix("data: ")) == event
        assert data.removeprefix("data: ").encode() in raw.body


@pytest.mark.parametrize("by", ["header", "query", "both"])
async def test_stream_goes_on_after_the_cursor(client: Rest, session: str, by: str) -> None:
    """By Last-Event-ID or since_id; the header wins. Every later event comes once, also those that follow live."""
    events = (await listed(client, session))["items"]
    for place in (0, len(events) // 2, len(events) - 1):
        cursor = events[place]["id"]
        query = {"header": "", "query": f"?since_id={cursor}", "both": f"?since_id={events[0]['id']}"}[by]
        header = None if by == "query" else cursor
        async with contextlib.aclosing(client.frames(f"{session}/events{query}", header)) as frames:  # type: ignore[type-var]
            message = await client.ok("POST", f"{session}/messages", {"role": "system", "content": "later"})
            seen = []
            async for frame in frames:
                seen.append(frame.data)
                if frame.data["data"].get("message", {}).get("id") == message["id"]:
                    break
        events = (await listed(client, session))["items"]
        assert seen == events[place + 1 :]


async def test_list_goes_on_after_the_cursor(client: Rest, session: str) -> None:
    """since_id and limit page through the log; after the last event there is nothing."""
    events = (await listed(client, session))["items"]
    seen: list[dict[str, Any]] = []
    query = "?limit=4"
    while page := (await listed(client, session, query))["items"]:
        assert len(page) <= 4
        seen += page
        query = f"?limit=4&since_id={page[-1]['id']}"
    assert seen == events
    end = await listed(client, session, f"?since_id={events[-1]['id']}")
    assert end == {"items": [], "data": [], "total": 0}


async def test_unknown_and_foreign_cursors_are_refused(client: Rest, grpc: Grpc, session: str) -> None:
    """400 CURSOR_UNKNOWN, before anything is streamed; what is no id at all is a plain 400."""
    other = await client.new_session(await client.agent())
    await client.ok("POST", f"{other}/messages", {"role": "system", "content": "x"})
    (foreign,) = (await listed(client, other))["items"]
    message = (await client.ok("GET", f"{session}/messages"))["items"][0]
    for cursor in (str(uuid.uuid4()), foreign["id"], message["id"]):
        for accept in ("application/json", "text/event-stream"):
            answer = await send(client, "GET", f"{session}/events?since_id={cursor}", headers={"accept": accept})
            check_error(answer, 400, "CURSOR_UNKNOWN")
        answer = await send(client, "GET", f"{session}/events", headers={"last-event-id": cursor})
        check_error(answer, 400, "CURSOR_UNKNOWN")
    for query, headers in (("?since_id=7", {}), ("?since_id=", {}), ("", {"last-event-id": "7"})):
        check_error(await send(client, "GET", f"{session}/events{query}", headers=headers), 400, "INVALID_ARGUMENT")


async def test_every_tab_sees_the_same_frames(client: Rest) -> None:
    """Readers that came before the first event, during the turn and after it, through any process."""
    agent = await client.agent(capabilities=["test_math"], default_model_id=await client.model("llmsim-tools"))
    session = await client.new_session(agent)
    early = [asyncio.create_task(client.until(f"{session}/events", "session.idled")) for _ in range(6)]
    await client.ok("POST", f"{session}/messages", {"content": "calculate"})
    during = [asyncio.create_task(client.until(f"{session}/events", "session.idled")) for _ in range(4)]
    logs = await asyncio.gather(*early, *during)
    logs.append(await client.until(f"{session}/events", "session.idled"))
    stored = [[(frame.id, frame.data) for frame in log if frame.id is not None] for log in logs]
    assert all(log == stored[0] for log in stored)
    assert [data for _, data in stored[0]] == (await listed(client, session))["items"]


async def test_live_pieces_have_no_id_and_are_not_stored(client: Rest) -> None:
    """They come between the stored events to who is there, and to nobody afterwards."""
    agent = await client.agent(default_model_id=await client.model("llmsim-slow"))
    session = await client.new_session(agent)
    reading = asyncio.create_task(client.until(f"{session}/events", "session.idled"))
    await client.ok("POST", f"{session}/messages", {"content": "hi"})
    frames = await reading
    pieces = [frame for frame in frames if frame.event == "message.delta"]
    assert pieces
    for piece in pieces:
        assert piece.id is None
        assert piece.data.keys() == {"type", "ts", "session_id", "context", "data"}
        assert piece.data["data"].keys() == {"message_id", "attempt", "offset", "delta"}
    assert "message.delta" not in {event["type"] for event in (await listed(client, session))["items"]}
    again = await client.until(f"{session}/events", "session.idled")
    assert [frame.data for frame in again] == [frame.data for frame in frames if frame.id is not None]


async def test_silent_stream_is_kept_alive_by_comments(client: Rest) -> None:
    """A line with a colon, at the start and after 10 seconds in which nothing happened."""
    session = await client.new_session(await client.agent())
    async with client.session.get(f"{client.yard.url}{session}/events") as answer:
        assert await answer.content.readexactly(6) == b":\n\n:\n\n"


def by_hand(event: Any) -> dict[str, Any]:
    """Return a typed event as the JSON of the other faces, its payload under ``data``."""
    options: dict[str, Any] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": False}
    value: dict[str, Any] = json_format.MessageToDict(event, **options)
    value["data"] = value.pop(event.WhichOneof("payload"), {})
    return {"context": {}, **value}


def without_defaults(value: Any) -> Any:
    """Return JSON without what protobuf does not tell from absent, and with times and numbers in one form."""
    if isinstance(value, dict):
        cleaned = {name: without_defaults(item) for name, item in value.items()}
        return {name: item for name, item in cleaned.items() if item not in ("", 0, False, [], {}, None)}
    if isinstance(value, list):
        return [without_defaults(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(:\d\d)(?:\.(\d+?)0*)?Z$", lambda match: f"{match[1]}.{match[2] or 0}Z", value)
    return value


async def test_typed_events_say_the_same_as_json(client: Rest, grpc: Grpc, session: str) -> None:
    """Each payload arrives under the member of its type, listed and streamed; the list has no second copy."""
    events = (await listed(client, session))["items"]
    answer = await grpc.call(LIST, ids_of(session))
    assert (answer.total, len(answer.data)) == (len(events), 0)
    streamed = []
    async for event in grpc.stream(SUBSCRIBE, ids_of(session)):
        streamed.append(event)
        if event.type == "session.idled":
            break
    assert list(answer.items) == streamed
    for typed, event in zip(streamed, events, strict=True):
        assert typed.WhichOneof("payload") == typed.type.replace(".", "_")
        assert without_defaults(by_hand(typed)) == without_defaults(event)


async def test_typed_subscription_resumes_and_ends_like_the_stream(client: Rest, grpc: Grpc, session: str) -> None:
    """since_id is its cursor; the stream ends with the session."""
    events = (await listed(client, session))["items"]
    call = grpc.stream(SUBSCRIBE, {**ids_of(session), "since_id": events[-3]["id"]})
    seen = [(await anext(aiter(call))).id, (await anext(aiter(call))).id]
    assert seen == [event["id"] for event in events[-2:]]
    await client.ok("DELETE", session)
    async with asyncio.timeout(10):
        assert [event async for event in call] == []


async def test_log_with_large_events_streams_and_lists(client: Rest, grpc: Grpc) -> None:
    """More than one answer can hold (32 MiB): the events come one after the other through every face."""
    expected = [f"{number:02}" for number in range(18)]
    session = await client.new_session(await client.agent())
    for mark in expected:
        await client.ok("POST", f"{session}/messages", {"role": "system", "content": mark * 950_000})
    body = bytearray()
    async with client.session.get(f"{client.yard.url}{session}/events", read_bufsize=1 << 20) as answer:
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > len(expected) * 1_900_000 and body.endswith(b"\n\n"):
                break
    assert [match.decode() for match in re.findall(rb'"text":"(\d\d)', body)] == expected
    pages: list[str] = []
    query = ""
    while page := (await listed(client, session, query))["items"]:
        pages += [event["data"]["message"]["content"][0]["text"][:2] for event in page]
        query = f"?since_id={page[-1]['id']}"
    assert pages == expected
    typed = []
    async for event in grpc.stream(SUBSCRIBE, ids_of(session)):
        typed.append(event.message_other.message.content[0].text[:2])
        if len(typed) == len(expected):
            break
    assert typed == expected
    await client.ok("DELETE", session)
