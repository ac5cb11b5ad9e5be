"""Events of the Python client: every stored event once and in order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from typing import Any

import grpc
import pytest
from codeyard.agents.v1 import agent_pb2, agent_service_pb2
from codeyard.sessions.v1 import event_pb2, event_service_pb2, message_pb2, message_service_pb2, session_pb2
from codeyard.sessions.v1 import session_service_pb2 as session_api
from codeyard_client import AsyncClient, Client, Event, TurnFailed, errors
from codeyard_client.types import MessageDelta, MessageStored

from tests.support.scripted_yard import Context, ScriptedYard, fail, scripted_yard

AGENT, SESSION = "01990000-0000-7000-8000-000000000001", "01990000-0000-7000-8000-000000000002"
EVENTS = "codeyard.sessions.v1.EventService"
SESSIONS = "codeyard.sessions.v1.SessionService"


def event(sequence: int, type_: str = "reason.started", turn: str = "t", **payload: Any) -> event_pb2.Event:
    """Return a stored event."""
    payload = payload or {"reason_started": event_pb2.ReasonStarted(agent_id=AGENT)}
    return event_pb2.Event(
        id=f"e{sequence}",
        type=type_,
        session_id=SESSION,
        sequence=sequence,
        context=event_pb2.EventContext(turn_id=turn),
        **payload,
    )


def delta(text: str) -> event_pb2.Event:
    """Return a live event."""
    piece = event_pb2.MessageDelta(message_id="m", attempt=1, delta=text)
    return event_pb2.Event(type="message.delta", session_id=SESSION, message_delta=piece)


class Log:
    """The log of a session: each subscription ends as the next of ``ends`` says, when they are used up it stays."""

    def __init__(self, events: list[event_pb2.Event], ends: list[tuple[int, Callable[[Context], Any]]]) -> None:
        self.events = events
        self.ends = ends
        self.cursors: list[str] = []

    async def subscribe(self, request: Any, context: Context) -> AsyncIterator[event_pb2.Event]:
        """Serve the events after the cursor."""
        self.cursors.append(request.since_id)
        await context.send_initial_metadata((("cache-control", "no-cache"),))
        start = next((n + 1 for n, e in enumerate(self.events) if e.id and e.id == request.since_id), 0)
        if len(self.cursors) <= len(self.ends):
            count, end = self.ends[len(self.cursors) - 1]
            for sent in self.events[start : start + count]:
                yield sent
            await end(context)
            return
        for sent in self.events[start:]:
            yield sent
        await asyncio.Event().wait()


async def unavailable(context: Context) -> None:
    """End as a gateway does whose server died."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "upstream reset")


async def reset(context: Context) -> None:
    """End as a connection does that is reset."""
    await context.abort(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2")


async def dependency_down(context: Context) -> None:
    """End as a server does whose database is gone."""
    await fail(context, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


async def cleanly(_: Context) -> None:
    """End as a server does that stops in good order."""


async def deleted(context: Context) -> None:
    """End as a server does that does not know the session."""
    await fail(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.fixture
async def yard() -> AsyncIterator[ScriptedYard]:
    """A scripted yard that knows one session."""
    async with scripted_yard() as running:
        session = session_pb2.Session(id=SESSION, agent_id=AGENT)

        async def get(*_: Any) -> Any:
            return session

        running.unary(f"{SESSIONS}/GetSession", session_api.GetSessionRequest, get)
        yield running


def serve(yard: ScriptedYard, log: Log) -> None:
    """Let the yard serve this log."""
    yard.stream(f"{EVENTS}/Subscribe", event_service_pb2.SubscribeRequest, log.subscribe)


async def take(yard: ScriptedYard, count: int, since: str | None = None, **options: Any) -> list[Event]:
    """Return the first events that a client yields."""
    found: list[Event] = []
    async with AsyncClient(yard.url, **options) as client:
        session = await client.sessions.get(AGENT, SESSION)
        async with aclosing(session.events(since=since)) as events:
            async for received in events:
                found.append(received)
                if len(found) == count:
                    break
    return found


@pytest.mark.parametrize("end", [unavailable, reset, dependency_down, cleanly])
async def test_events_go_on_after_the_last_one_when_the_stream_ends(yard: ScriptedYard, end: Any) -> None:
    """However a stream ends, the next one starts after the last event that arrived."""
    log = Log([event(n) for n in range(1, 7)], [(2, end), (0, end), (1, end)])
    serve(yard, log)
    found = await take(yard, 6)
    assert [e.id for e in found] == ["e1", "e2", "e3", "e4", "e5", "e6"]
    assert log.cursors == ["", "e2", "e2", "e3"]


async def test_events_are_complete_when_the_stream_is_cut_at_random(yard: ScriptedYard) -> None:
    """200 events over 20 cuts: each once, in order."""
    chance = random.Random(7)
    ends: list[Any] = [(chance.randrange(1, 10), chance.choice([unavailable, reset, cleanly])) for _ in range(20)]
    serve(yard, Log([event(n) for n in range(1, 201)], ends))
    assert [e.sequence for e in await take(yard, 200)] == list(range(1, 201))


async def test_blocking_events_go_on_when_the_stream_ends(yard: ScriptedYard) -> None:
    """The blocking client resumes as well."""
    serve(yard, Log([event(n) for n in range(1, 7)], [(2, unavailable), (0, cleanly), (1, reset)]))

    def read() -> list[str | None]:
        with Client(yard.url) as client, closing(client.sessions.get(AGENT, SESSION).events()) as events:
            return [next(events).id for _ in range(6)]

    assert await asyncio.to_thread(read) == ["e1", "e2", "e3", "e4", "e5", "e6"]


async def test_events_start_after_the_cursor_when_one_is_given(yard: ScriptedYard) -> None:
    """``since`` is the id of the last event that is known."""
    serve(yard, Log([event(n) for n in range(1, 7)], []))
    assert [e.id for e in await take(yard, 2, since="e4")] == ["e5", "e6"]


async def test_live_events_pass_without_moving_the_cursor_when_they_arrive(yard: ScriptedYard) -> None:
    """A piece of a reply has no id: after a cut, the stream goes on after the last stored event."""
    log = Log([event(1), delta("Hel"), delta("lo"), event(2)], [(3, unavailable)])
    serve(yard, log)
    found = await take(yard, 6)
    texts = [e.data.delta for e in found if isinstance(e.data, MessageDelta)]
    assert [e.id for e in found if e.id] == ["e1", "e2"]
    assert texts[:2] == ["Hel", "lo"]
    assert log.cursors == ["", "e1"]


async def test_events_end_when_the_session_is_deleted(yard: ScriptedYard) -> None:
    """A session that is gone at the next attempt has no more events."""
    serve(yard, Log([event(1), event(2)], [(2, cleanly), (0, deleted)]))
    assert [e.id for e in await take(yard, 9)] == ["e1", "e2"]


async def test_events_fail_when_there_never_was_such_a_session(yard: ScriptedYard) -> None:
    """An unknown session is an error, not an empty stream."""

    async def unknown(_: Any, context: Context) -> AsyncIterator[event_pb2.Event]:
        await deleted(context)
        yield event(1)

    yard.stream(f"{EVENTS}/Subscribe", event_service_pb2.SubscribeRequest, unknown)
    with pytest.raises(errors.NotFound):
        await take(yard, 1)


async def test_events_fail_at_once_when_the_cursor_is_unknown(yard: ScriptedYard) -> None:
    """A bad cursor does not get better by asking again."""
    asked: list[str] = []

    async def refuse(request: Any, context: Context) -> AsyncIterator[event_pb2.Event]:
        asked.append(request.since_id)
        await fail(context, grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_UNKNOWN")
        yield event(1)

    yard.stream(f"{EVENTS}/Subscribe", event_service_pb2.SubscribeRequest, refuse)
    with pytest.raises(errors.CursorUnknown):
        await take(yard, 1, since="x")
    assert asked == ["x"]


async def test_events_fail_when_the_yard_does_not_come_back(yard: ScriptedYard) -> None:
    """A stream that was cut gives up after ``reconnect_seconds`` without an answer, having yielded what it had."""
    log = Log([event(1)], [(1, unavailable)])

    async def once(request: Any, context: Context) -> AsyncIterator[event_pb2.Event]:
        if log.cursors:
            await unavailable(context)
        async for sent in log.subscribe(request, context):
            yield sent

    yard.stream(f"{EVENTS}/Subscribe", event_service_pb2.SubscribeRequest, once)
    async with AsyncClient(yard.url, reconnect_seconds=0.4) as client:
        events = (await client.sessions.get(AGENT, SESSION)).events()
        assert (await anext(events)).id == "e1"
        with pytest.raises(errors.Unavailable):
            await anext(events)


async def test_subscription_ends_on_the_server_when_the_iterator_is_closed(yard: ScriptedYard) -> None:
    """Who stops reading leaves no stream behind."""
    ended = asyncio.Event()

    async def follow(_: Any, context: Context) -> AsyncIterator[event_pb2.Event]:
        try:
            yield event(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    yard.stream(f"{EVENTS}/Subscribe", event_service_pb2.SubscribeRequest, follow)
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        async with aclosing(session.events()) as events:
            await anext(events)
        async with asyncio.timeout(10):
            await ended.wait()


async def test_stored_events_are_all_read_when_pages_are_short(yard: ScriptedYard) -> None:
    """A page that holds less than was asked for is not the last: only an empty one is."""
    log = [event(n) for n in range(1, 6)]
    asked: list[str] = []

    async def pages(request: Any, _: Context) -> Any:
        asked.append(request.since_id)
        start = int(request.since_id.removeprefix("e") or 0)
        return event_service_pb2.ListEventsResponse(items=log[start : start + 2])

    yard.unary(f"{EVENTS}/ListEvents", event_service_pb2.ListEventsRequest, pages)
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        assert [e.sequence async for e in session.stored_events(page_size=4)] == [1, 2, 3, 4, 5]
    assert asked == ["", "e2", "e4", "e5"]


def stored(sequence: int, message_id: str, role: str, text: str, turn: str = "") -> event_pb2.Event:
    """Return the event of a message."""
    part = message_pb2.ContentPart(type="text", text=text)
    message = event_pb2.MessageStored(message=event_pb2.EventMessage(id=message_id, role=role, content=[part]))
    return event(sequence, f"message.{role}", turn, **{f"message_{role}": message})


def two_turns(*end: event_pb2.Event) -> list[event_pb2.Event]:
    """Return a log in which the message m2 waits while the turn of m1 runs, up to the given end."""
    started = event_pb2.TurnStarted
    return [
        stored(1, "m1", "user", "first"),
        event(2, "turn.started", "t1", turn_started=started(turn_id="t1", message_ids=["m1"])),
        stored(3, "m2", "user", "second"),
        stored(4, "a1", "agent", "answer to first", "t1"),
        event(5, "turn.completed", "t1", turn_completed=event_pb2.TurnCompleted(turn_id="t1", iterations=1)),
        event(6, "turn.started", "t2", turn_started=started(turn_id="t2", message_ids=["m2"])),
        stored(7, "a2", "agent", "let me see", "t2"),
        *end,
    ]


ANSWERED = [
    stored(8, "a3", "agent", "answer to second", "t2"),
    event(9, "turn.completed", "t2", turn_completed=event_pb2.TurnCompleted(turn_id="t2", iterations=2)),
]


def take_messages(yard: ScriptedYard) -> None:
    """Let the yard answer every message as m2, the third event."""

    async def create(request: Any, _: Any) -> Any:
        return message_pb2.Message(id="m2", session_id=SESSION, sequence=3, content=request.message.content)

    yard.unary("codeyard.sessions.v1.MessageService/CreateMessage", message_service_pb2.CreateMessageRequest, create)


async def test_ask_returns_the_last_text_of_its_own_turn_when_another_turn_runs(yard: ScriptedYard) -> None:
    """The answer to an earlier message is not taken for one's own, nor is a text before tool calls."""
    take_messages(yard)
    serve(yard, Log(two_turns(*ANSWERED), []))
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        assert await session.ask("second") == "answer to second"


async def test_turn_yields_its_own_events_only_when_the_stream_is_cut(yard: ScriptedYard) -> None:
    """From turn.started to the end, across a lost connection."""
    take_messages(yard)
    serve(yard, Log(two_turns(*ANSWERED), [(6, unavailable), (1, reset)]))
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        assert [e.sequence async for e in session.turn("second")] == [6, 7, 8, 9]


async def test_ask_finds_an_answer_of_the_past_when_its_key_was_used_before(yard: ScriptedYard) -> None:
    """A message that exists already is answered from the log, though this session has read further."""
    take_messages(yard)
    serve(yard, Log(two_turns(*ANSWERED), []))
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        assert await session.ask("second", idempotency_key="k") == "answer to second"
        assert await session.ask("second", idempotency_key="k") == "answer to second"


async def test_ask_fails_with_the_code_when_the_turn_fails(yard: ScriptedYard) -> None:
    """A turn without an answer is an exception that says why."""
    take_messages(yard)
    failed = event_pb2.TurnFailed(turn_id="t2", error="The turn was cancelled", error_code="cancelled")
    serve(yard, Log(two_turns(event(8, "turn.failed", "t2", turn_failed=failed)), []))
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        with pytest.raises(TurnFailed) as raised:
            await session.ask("second")
    assert (raised.value.error_code, raised.value.turn_id) == ("cancelled", "t2")


async def test_ask_fails_when_the_session_is_deleted_meanwhile(yard: ScriptedYard) -> None:
    """Nobody waits for an answer that cannot come."""
    take_messages(yard)
    serve(yard, Log(two_turns(), [(7, cleanly), (0, deleted)]))
    async with AsyncClient(yard.url) as client:
        session = await client.sessions.get(AGENT, SESSION)
        with pytest.raises(errors.NotFound):
            await session.ask("second")


async def test_find_asks_every_agent_when_the_session_is_of_the_last(yard: ScriptedYard) -> None:
    """A session can be found without its agent."""
    agents = [agent_pb2.Agent(id=f"a{n}") for n in range(3)]

    async def list_agents(*_: Any) -> Any:
        return agent_service_pb2.ListAgentsResponse(items=agents, total=3)

    async def get(request: Any, context: Context) -> Any:
        if request.agent_id != "a2":
            await deleted(context)
        return session_pb2.Session(id=request.session_id, agent_id=request.agent_id)

    yard.unary("codeyard.agents.v1.AgentService/ListAgents", agent_service_pb2.ListAgentsRequest, list_agents)
    yard.unary(f"{SESSIONS}/GetSession", session_api.GetSessionRequest, get)
    async with AsyncClient(yard.url) as client:
        assert (await client.sessions.find(SESSION)).agent_id == "a2"


async def test_event_of_a_newer_yard_has_no_payload_when_its_type_is_unknown(yard: ScriptedYard) -> None:
    """A type that this client does not know passes, with what every event has."""
    newer = event_pb2.Event(id="e2", type="moon.rose", session_id=SESSION, sequence=2)
    serve(yard, Log([stored(1, "m", "user", "x"), newer], []))
    first, second = await take(yard, 2)
    assert isinstance(first.data, MessageStored)
    assert (second.type, second.data, second.sequence) == ("moon.rose", None, 2)
