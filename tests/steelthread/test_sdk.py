"""The Python client against a real yard: native gRPC through Envoy to the servers and the database."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any

import pytest
from codeyard_client import AsyncClient, AsyncSession, Client, Event, TurnFailed, errors, text_of, to_json, types

from tests.support.client import rest
from tests.support.yard import Yard

NOBODY = "00000000-0000-7000-8000-000000000000"
ANSWER = "Hello! I am the simulated model of this yard. Tell me what to do, and I will play along."


@pytest.fixture
async def client(yard: Yard) -> AsyncIterator[AsyncClient]:
    """An asynchronous client of the administrator."""
    async with AsyncClient(yard.url, yard.token) as opened:
        yield opened


@pytest.fixture
async def patient_client(yard: Yard) -> AsyncIterator[AsyncClient]:
    """One that waits while there is no server at all: on a busy machine a new one takes seconds."""
    async with AsyncClient(yard.url, yard.token, retry_seconds=60, timeout=90) as opened:
        yield opened


@pytest.fixture
def blocking(yard: Yard) -> Iterator[Client]:
    """A blocking client of the administrator."""
    with Client(yard.url, yard.token) as opened:
        yield opened


async def model(client: AsyncClient, name: str) -> str:
    """Return the id of a simulator's model."""
    return await anext(found.id async for found in client.models.list() if found.model_id == name)


@asynccontextmanager
async def hanging_session(client: AsyncClient) -> AsyncIterator[tuple[AsyncSession, asyncio.Event]]:
    """Yield a session whose model is a server that takes every request and never answers, and what it sets then."""
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = await client.providers.create("Hangs", "custom", base_url=f"http://127.0.0.1:{port}", api_key="k")
        hangs = await client.models.create(provider.id, "hangs")
        agent = await client.agents.create("Waits")
        try:
            yield await agent.sessions.create(model_id=hangs.id), asked
        finally:
            await client.providers.delete(provider.id)


async def test_session_answers_when_it_is_asked(client: AsyncClient) -> None:
    """The main job: an agent, a session, a message, its answer."""
    agent = await client.agents.create("Helper", "Answer briefly.", tags=["sdk"], capabilities=["current_time"])
    session = await agent.sessions.create(title="First")
    assert await session.ask("Hello") == ANSWER
    assert await session.ask("Again") == ANSWER
    conversation = [(message.role, text_of(message)) async for message in session.messages(page_size=3)]
    assert conversation == [("user", "Hello"), ("agent", ANSWER), ("user", "Again"), ("agent", ANSWER)]
    await session.refresh()
    assert (session.title, session.status, session.agent_id) == ("First", "idle", agent.id)


def test_blocking_session_answers_when_it_is_asked(blocking: Client) -> None:
    """The same without an event loop."""
    agent = blocking.agents.create("Helper", "Answer briefly.")
    session = agent.sessions.create()
    assert session.ask("Hello") == ANSWER
    assert [event.data for event in session.turn("Again")][-1].__class__ is types.TurnCompleted
    with closing(session.events()) as events:
        assert next(events).type == "message.user"


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "sdk-python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs_when_it_is_copied_from_the_page(
    number: int, yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example of docs/sdk-python.md runs as it stands, and prints something."""
    monkeypatch.setenv("CODEYARD_URL", yard.url)
    monkeypatch.setenv("CODEYARD_TOKEN", yard.token)
    exec(compile(EXAMPLES[number], f"{PAGE.name}[{number}]", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out.strip()


async def test_pieces_make_the_message_when_a_reply_is_streamed(client: AsyncClient) -> None:
    """Live pieces arrive before the stored message, and together they are its text."""
    agent = await client.agents.create("Slow")
    session = await agent.sessions.create(model_id=await model(client, "llmsim-slow"))
    events = [event async for event in session.turn("Hello")]
    pieces = [event.data for event in events if isinstance(event.data, types.MessageDelta)]
    replies = [event.data for event in events if event.type == "message.agent"]
    assert len(pieces) > 1
    (reply,) = replies
    assert isinstance(reply, types.MessageStored)
    assert reply.message
    assert "".join(piece.delta for piece in pieces) == text_of(reply.message) == ANSWER
    assert {piece.message_id for piece in pieces} == {reply.message.id}


async def test_turn_shows_its_tool_calls_when_the_model_makes_them(client: AsyncClient) -> None:
    """Each call starts and ends with its result, and the answer comes after them."""
    agent = await client.agents.create("Counts", capabilities=["test_math", "current_time"])
    session = await agent.sessions.create()
    events = [event async for event in session.turn("go", model_id=await model(client, "llmsim-tools"))]
    begun = [e.data.tool_call.name for e in events if isinstance(e.data, types.ToolCallStarted) and e.data.tool_call]
    ended = [e.data.status for e in events if isinstance(e.data, types.ToolCallCompleted)]
    assert sorted(begun) == ["add", "divide", "get_current_time", "multiply", "subtract"]
    assert ended == ["success"] * 5
    assert (events[0].type, events[-1].type) == ("turn.started", "turn.completed")


async def test_events_look_as_over_rest_when_they_are_printed(client: AsyncClient, yard: Yard) -> None:
    """The JSON of a typed event is the event of the REST face, but for lists that are empty there or absent here."""
    agent = await client.agents.create("Counts", capabilities=["test_math"])
    session = await agent.sessions.create(model_id=await model(client, "llmsim-tools"))
    await session.ask("go", tags=["t"], metadata={"n": 1, "none": None, "deep": {"list": [1.5, True]}})
    mine = [event.to_json() async for event in session.stored_events(page_size=7)]
    async with rest(yard) as http:
        path = f"/v1/agents/{agent.id}/sessions/{session.id}/events"
        theirs = (await http.ok("GET", path, accept="application/json"))["items"]
    assert len(mine) > 20
    assert _without_empty_lists(mine) == _without_empty_lists(theirs)


def _without_empty_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty_lists(item) for key, item in value.items() if item != []}
    return [_without_empty_lists(item) for item in value] if isinstance(value, list) else value


async def test_turn_fails_as_cancelled_when_it_is_cancelled(client: AsyncClient) -> None:
    """A turn that waits for its model ends at once, and the next message is answered."""
    async with hanging_session(client) as (session, asked):
        asking = asyncio.create_task(session.ask("Are you there?"))
        await asyncio.wait_for(asked.wait(), 60)
        await session.cancel()
        with pytest.raises(TurnFailed) as raised:
            await asking
        assert raised.value.error_code == "cancelled"
        assert await session.ask("Hello", model_id=await model(client, "llmsim")) == ANSWER


async def test_messages_are_all_answered_when_they_are_asked_at_the_same_time(client: AsyncClient) -> None:
    """Two callers of one session both get the answer of the turn that took their message; it can be the same turn."""
    session = await (await client.agents.create("Echo")).sessions.create(model_id=await model(client, "llmsim-echo"))
    one, two = await asyncio.gather(session.ask("one"), session.ask("two"))
    assert {one, two} <= {"Echo: one", "Echo: two"}
    sent = [message.id async for message in session.messages() if message.role == "user"]
    starts = [event.data async for event in session.stored_events() if isinstance(event.data, types.TurnStarted)]
    taken = [message_id for start in starts for message_id in start.message_ids]
    assert len(sent) == 2
    assert sorted(taken) == sorted(sent)


async def test_creation_happens_once_when_its_key_is_used_twice(client: AsyncClient) -> None:
    """A script that runs again gets the objects of its first run, and is told when it asks for other ones."""
    first = await client.agents.create("Once", idempotency_key="sdk-once")
    assert (await client.agents.create("Once", idempotency_key="sdk-once")).id == first.id
    with pytest.raises(errors.IdempotencyKeyReused):
        await client.agents.create("Twice", idempotency_key="sdk-once")
    session = await first.sessions.create()
    assert await session.ask("Hello", idempotency_key="m") == await session.ask("Hello", idempotency_key="m") == ANSWER
    assert len([message async for message in session.messages()]) == 2


async def test_failure_has_its_class_when_the_yard_refuses(client: AsyncClient, yard: Yard) -> None:
    """What the server says arrives typed through the gateway."""
    with pytest.raises(errors.NotFound) as missing:
        await client.agents.get(NOBODY)
    assert missing.value.request_id
    with pytest.raises(errors.InvalidArgument) as bad:
        await client.agents.create("")
    assert {violation.field for violation in bad.value.details} == {"name"}
    with pytest.raises(errors.CapabilityInvalid):
        await client.agents.create("x", capabilities=["no_such"])
    agent = await client.agents.create("Errors")
    with pytest.raises(errors.ModelUnknown):
        await agent.update(default_model_id=NOBODY)
    session = await agent.sessions.create()
    with pytest.raises(errors.CursorUnknown):
        await anext(session.events(since=NOBODY))
    with pytest.raises(errors.NotFound):
        await client.sessions.get(NOBODY, session.id)
    async with AsyncClient(yard.url, "cyk_wrong") as stranger:
        with pytest.raises(errors.Unauthenticated):
            await stranger.agents.get(agent.id)
        assert (await stranger.health()).status == "ok"


async def test_agent_changes_when_it_is_updated_and_archived(client: AsyncClient) -> None:
    """Only what is given changes; an archived agent leaves the list and comes back."""
    agent = await client.agents.create("Before", "prompt", tags=["a", "b"], capabilities=["noop"])
    await agent.update(name="After", tags=[])
    assert (agent.name, agent.system_prompt, agent.tags, agent.capabilities) == ("After", "prompt", (), ("noop",))
    await agent.archive()
    assert agent.status == "archived"
    assert agent.id not in [listed.id async for listed in client.agents.list()]
    await agent.update(status="active")
    assert agent.id in [listed.id async for listed in client.agents.list(page_size=2)]


async def test_sessions_are_found_and_listed_when_there_are_several(client: AsyncClient) -> None:
    """Pages join without a gap; a session is found without its agent."""
    agent = await client.agents.create("Lists")
    created = [(await agent.sessions.create(title=str(number))).id for number in range(5)]
    assert [session.id async for session in agent.sessions.list(page_size=2)] == created[::-1]
    found = await client.sessions.find(created[2])
    assert (found.agent_id, found.title) == (agent.id, "2")
    await found.update(title="two", tags=["x"])
    assert ((await agent.sessions.get(found.id)).title, found.tags) == ("two", ("x",))


async def test_events_end_when_their_session_is_deleted(client: AsyncClient) -> None:
    """Who follows a session that is deleted has reached its end, without an error."""
    session = await (await client.agents.create("Gone")).sessions.create()
    await session.ask("Hello")
    seen: list[Event] = []
    async with asyncio.timeout(30), aclosing(session.events()) as events:
        async for event in events:
            seen.append(event)
            if event.type == "session.idled":
                await session.delete()
    assert seen[-1].type == "session.idled"


async def test_providers_models_and_servers_are_kept_when_they_are_managed(client: AsyncClient) -> None:
    """The rest of the API: each thing is created, read, listed, changed and deleted."""
    provider = await client.providers.create("Mine", "custom", base_url="http://127.0.0.1:9/v1", api_key="secret")
    assert provider.api_key_set
    assert "secret" not in str(to_json(provider))
    assert (await client.providers.update(provider.id, name="Ours")).name == "Ours"
    assert (await client.providers.get(provider.id)).name == "Ours"
    added = await client.models.create(provider.id, "big", "Big", capabilities=["chat"], context_window=1000)
    with pytest.raises(errors.ModelExists):
        await client.models.create(provider.id, "big")
    changed = await client.models.update(added.id, display_name="Bigger", status="disabled")
    assert (changed.display_name, (await client.models.get(added.id)).status) == ("Bigger", "disabled")
    assert [found.id async for found in client.models.list(provider_id=provider.id)] == [added.id]
    assert added.id not in [found.id async for found in client.models.list()]
    await client.models.delete(added.id)
    await client.providers.delete(provider.id)
    assert provider.id not in [found.id async for found in client.providers.list(page_size=1)]
    assert (await client.capabilities.get("current_time")).tool_definitions
    assert "noop" in [capability.id async for capability in client.capabilities.list()]
    server = await client.mcp_servers.create("sdk-tickets", "https://tickets.example/mcp", headers={"X-Key": "secret"})
    assert (server.capability_id, server.header_names) == ("mcp:sdk-tickets", ["X-Key"])
    assert server.id in [found.id async for found in client.mcp_servers.list()]
    assert (await client.mcp_servers.get(server.id)).name == "sdk-tickets"
    await client.mcp_servers.delete(server.id)


def _all_running(yard: Yard) -> None:
    """Wait until the supervisor has replaced what was killed; the next tests use the same yard."""
    deadline = time.monotonic() + 60
    while any(part["state"] != "running" for part in yard.status()["processes"]):
        assert time.monotonic() < deadline, yard.status()
        time.sleep(0.1)


async def test_events_are_complete_when_gateway_and_servers_are_killed(patient_client: AsyncClient, yard: Yard) -> None:
    """One reader follows while Envoy and both servers are killed: every event of the log once, in order."""
    client = patient_client
    agent = await client.agents.create("Survivor", capabilities=["test_math"])
    session = await agent.sessions.create(model_id=await model(client, "llmsim-tools"))
    seen: list[Event] = []
    victims = ("envoy", "server-0", "server-1")

    async def follow() -> None:
        turns = 0
        async with aclosing(session.events()) as events:
            async for event in events:
                seen.extend([event] if event.id else [])
                turns += event.type == "session.idled"
                if turns == 2 * len(victims):
                    return

    reader = asyncio.create_task(follow())
    for victim in victims:
        await session.ask(f"before {victim} dies")
        os.kill(yard.pid(victim), signal.SIGKILL)
        await session.ask(f"after {victim} died")
    async with asyncio.timeout(60):
        await reader
    stored = [event.id async for event in session.stored_events()]
    assert [event.id for event in seen] == stored
    assert [event.sequence for event in seen] == list(range(1, len(stored) + 1))
    await asyncio.to_thread(_all_running, yard)
