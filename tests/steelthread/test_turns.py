"""The turn loop as a client sees it: the order of events, failures, queueing, limits, cancelling."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support import log_checker, naps
from tests.support.client import Frame, Rest, rest
from tests.support.processes import die_with_parent, free_port, stop
from tests.support.providers import new_model, new_provider, remove
from tests.support.yard import Yard, fresh_yard

pytestmark = pytest.mark.usefixtures("no_faults")

BEGIN = ["message.user", "session.activated", "turn.started", "input.received"]
REPLY = ["reason.started", "llm.generation", "message.agent", "reason.completed"]
END = ["turn.completed", "session.idled"]
GREETING = "Hello! I am the simulated model of this yard. Tell me what to do, and I will play along."


async def new_session(client: Rest, model: str, **agent: Any) -> str:
    """Return the path of a session whose turns take this model of the simulator."""
    return await client.new_session(await client.agent(default_model_id=await client.model(model), **agent))


async def say(client: Rest, session: str, text: str = "hi", **members: Any) -> dict[str, Any]:
    """Send a message."""
    return dict(await client.ok("POST", f"{session}/messages", {"content": text, **members}))


async def ended(client: Rest, session: str) -> list[Frame]:
    """Return the frames up to the end of the first turn."""
    return await client.until(f"{session}/events", "session.idled")


async def settled(client: Rest, session: str, turns: int) -> list[dict[str, Any]]:
    """Return the log once so many turns have ended."""
    idled = 0
    async for frame in client.frames(f"{session}/events"):
        idled += frame.event == "session.idled"
        if idled == turns:
            break
    return list((await client.ok("GET", f"{session}/events", accept="application/json"))["items"])


def types(frames: list[Frame]) -> list[str]:
    """Return the types of stored events, but for session.started, which only a first turn has."""
    return [frame.event for frame in frames if frame.id is not None and frame.event != "session.started"]


def only(frames: list[Frame], kind: str) -> dict[str, Any]:
    """Return the payload of the one event of a type."""
    (frame,) = [frame for frame in frames if frame.event == kind]
    return dict(frame.data["data"])


# Order and payloads


async def test_turn_without_tools_has_the_documented_events(client: Rest) -> None:
    """In this order, each with its payload, and the answer stored as a message."""
    session = await new_session(client, "llmsim")
    message = await say(client, session)
    frames = await ended(client, session)
    assert types(frames) == [*BEGIN, *REPLY, *END]
    turn_id = only(frames, "turn.started")["turn_id"]
    about = {"turn_id": turn_id, "input_message_id": message["id"]}
    assert only(frames, "session.activated") == about
    assert only(frames, "turn.started") == {**about, "message_ids": [message["id"]]}
    assert only(frames, "input.received")["message"]["id"] == message["id"]
    assert only(frames, "session.idled") == {"turn_id": turn_id, "iterations": 1}
    completed = only(frames, "turn.completed")
    assert completed == {"turn_id": turn_id, "iterations": 1, "duration_ms": completed["duration_ms"]}
    reply = only(frames, "message.agent")
    assert reply["message"]["content"] == [{"type": "text", "text": GREETING}]
    assert reply["metadata"]["model"] == "llmsim"
    assert reply["usage"] == {"input_tokens": 1, "output_tokens": len(GREETING) // 4}
    assert only(frames, "reason.completed") == {
        "success": True,
        "text_preview": GREETING,
        "has_tool_calls": False,
        "tool_call_count": 0,
    }
    generation = only(frames, "llm.generation")
    assert generation["output"] == {"text": GREETING}
    assert generation["metadata"]["finish_reasons"] == ["stop"]
    assert generation["metadata"]["attempts"] == 1


async def test_first_turn_of_a_session_starts_it(client: Rest) -> None:
    """session.started comes once, before the first turn's events, and names the agent and the model."""
    session = await new_session(client, "llmsim")
    await say(client, session)
    await ended(client, session)
    await say(client, session)
    log = await settled(client, session, 2)
    started = [event for event in log if event["type"] == "session.started"]
    assert [event["data"]["agent_id"] for event in started] == [session.split("/")[3]]
    assert started[0]["data"]["model_id"] == await client.model("llmsim")
    place = log.index(started[0])
    assert {event["type"] for event in log[:place]} == {"message.user"}
    assert log[place + 1]["type"] == "session.activated"


async def test_turn_with_tools_has_the_documented_events(client: Rest) -> None:
    """A batch between two model calls; the calls run in parallel, each between its own start and end."""
    session = await new_session(client, "llmsim-tools", capabilities=["test_math", "current_time"])
    await say(client, session)
    frames = await ended(client, session)
    order = types(frames)
    acting = slice(order.index("act.started"), order.index("act.completed") + 1)
    assert order[: acting.start] == [*BEGIN, *REPLY]
    assert order[acting.stop :] == [*REPLY, *END]
    assert collections.Counter(order[acting]) == {
        "act.started": 1, "act.completed": 1, "tool.call_started": 5, "tool.call_completed": 5,
    }  # fmt: skip
    calls = only(frames, "act.started")["tool_calls"]
    assert [call["name"] for call in calls] == ["add", "subtract", "multiply", "divide", "get_current_time"]
    assert all(call.keys() == {"id", "name"} for call in calls)
    begun = [frame.data["data"]["tool_call"] for frame in frames if frame.event == "tool.call_started"]
    assert [{name: call[name] for name in ("id", "name")} for call in begun] == calls
    assert begun[0]["arguments"] == {"a": 1, "b": 1}
    ends = {f.data["data"]["tool_call_id"]: f.data["data"] for f in frames if f.event == "tool.call_completed"}
    assert ends.keys() == {call["id"] for call in calls}
    for call in calls:
        end = ends[call["id"]]
        assert (end["tool_name"], end["success"], end["status"]) == (call["name"], True, "success")
        assert [part["type"] for part in end["result"]] == ["text"]
    assert only(frames, "act.completed") == {"completed": True, "success_count": 5, "error_count": 0}
    assert only(frames, "turn.completed")["iterations"] == 2


async def test_steps_of_a_turn_have_ids_of_their_own(client: Rest) -> None:
    """One turn id throughout; one exec id for the input, each model call, each batch, the end."""
    session = await new_session(client, "llmsim-tools", capabilities=["current_time"])
    await say(client, session)
    frames = [frame for frame in await ended(client, session) if frame.id and frame.event != "message.user"]
    assert len({frame.data["context"]["turn_id"] for frame in frames}) == 1
    steps = list(dict.fromkeys(frame.data["context"]["exec_id"] for frame in frames))
    assert len(steps) == 5
    names = [{f.event for f in frames if f.data["context"]["exec_id"] == step} for step in steps]
    assert names == [
        {"session.started", "session.activated", "turn.started", "input.received"},
        set(REPLY),
        {"act.started", "tool.call_started", "tool.call_completed", "act.completed"},
        set(REPLY),
        set(END),
    ]


# The simulator's modes


async def test_error_of_the_model_is_a_normal_outcome(client: Rest) -> None:
    """An apology without details, llm_error, idle; the next message is answered."""
    session = await new_session(client, "llmsim-error")
    await say(client, session)
    frames = await ended(client, session)
    assert types(frames) == [*BEGIN, *REPLY, "turn.failed", "session.idled"]
    apology = only(frames, "message.agent")["message"]["content"][0]["text"]
    assert "simulator" not in apology.lower() and "error" not in apology.lower()
    completed = only(frames, "reason.completed")
    assert (completed["success"], completed["has_tool_calls"]) == (False, False)
    generation = only(frames, "llm.generation")["metadata"]
    assert (generation["success"], generation["finish_reasons"]) == (False, ["error"])
    failed = only(frames, "turn.failed")
    assert failed["error_code"] == "llm_error"
    for text in (completed["error"], generation["error"], failed["error"]):
        assert text and "simulator" not in text.lower()
    assert (await client.ok("GET", session))["status"] == "idle"
    await say(client, session, controls={"model_id": await client.model("llmsim-echo")})
    log = await settled(client, session, 2)
    assert [event["type"] for event in log[-2:]] == END


async def test_empty_reply_is_an_answer(client: Rest) -> None:
    """The text part is there although it is empty."""
    session = await new_session(client, "llmsim-empty")
    await say(client, session)
    frames = await ended(client, session)
    assert types(frames) == [*BEGIN, *REPLY, *END]
    assert only(frames, "message.agent")["message"]["content"] == [{"type": "text", "text": ""}]


@pytest.mark.parametrize("model", ["llmsim-slow", "llmsim-echo", "llmsim"])
async def test_pieces_make_up_the_message(client: Rest, model: str) -> None:
    """Each says where it belongs; together they are the text that is stored after them, under the same id."""
    text = "grüße 👋 " * 400
    session = await new_session(client, model)
    reading = asyncio.create_task(ended(client, session))
    await say(client, session, text)
    frames = await reading
    order = [frame.event for frame in frames]
    pieces = [frame.data["data"] for frame in frames if frame.event == "message.delta"]
    stored = only(frames, "message.agent")["message"]
    expected = f"Echo: {text}" if model == "llmsim-echo" else GREETING
    assert "".join(piece["delta"] for piece in pieces) == stored["content"][0]["text"] == expected
    assert {piece["message_id"] for piece in pieces} == {stored["id"]}
    assert len({piece["attempt"] for piece in pieces}) == 1
    offsets = [sum(len(piece["delta"]) for piece in pieces[:place]) for place in range(len(pieces))]
    assert [piece["offset"] for piece in pieces] == offsets
    assert max(i for i, kind in enumerate(order) if kind == "message.delta") < order.index("message.agent")


async def test_slow_reply_arrives_in_several_pieces(client: Rest) -> None:
    """What is said early is seen early."""
    session = await new_session(client, "llmsim-slow")
    reading = asyncio.create_task(ended(client, session))
    await say(client, session)
    assert [frame.event for frame in await reading].count("message.delta") >= 3


async def test_attempt_that_broke_off_is_replaced_by_the_next(client: Rest) -> None:
    """Its pieces count for nothing: those of the next attempt start again at 0 and make up the message."""
    provider = await new_provider(client)
    model = await new_model(client, provider, "llmsim-flaky")
    session = await client.new_session(await client.agent(default_model_id=model["id"]))
    reading = asyncio.create_task(ended(client, session))
    await say(client, session)
    frames = await reading
    pieces = [frame.data["data"] for frame in frames if frame.event == "message.delta"]
    first, last = min(piece["attempt"] for piece in pieces), max(piece["attempt"] for piece in pieces)
    assert last == first + 1
    assert GREETING.startswith("".join(piece["delta"] for piece in pieces if piece["attempt"] == first))
    assert "".join(piece["delta"] for piece in pieces if piece["attempt"] == last) == GREETING
    assert next(piece["offset"] for piece in pieces if piece["attempt"] == last) == 0
    assert only(frames, "llm.generation")["metadata"]["attempts"] == 2
    assert types(frames) == [*BEGIN, *REPLY, *END]
    await remove(client, provider)


# Queueing


async def test_messages_that_come_while_a_turn_runs_are_all_answered_once(client: Rest) -> None:
    """They wait for the next turn, which takes all of them; the turns' message_ids partition what was sent."""
    session = await new_session(client, "llmsim-slow")
    sent = [(await say(client, session, "0"))["id"]]
    await client.until(f"{session}/events", "message.delta")
    sent += [(await say(client, session, str(number)))["id"] for number in range(1, 4)]
    log = await settled(client, session, 2)
    log_checker.check(log, sent)
    taken = [event["data"]["message_ids"] for event in log if event["type"] == "turn.started"]
    assert taken == [sent[:1], sent[1:]]
    received = [event["data"]["message"]["id"] for event in log if event["type"] == "input.received"]
    assert received == [sent[0], sent[-1]]


async def test_messages_of_many_senders_at_once_are_all_answered_once(client: Rest) -> None:
    """Whoever wins the race for the session: no message is lost, none is answered twice."""
    sessions = [await new_session(client, "llmsim-echo", capabilities=["current_time"]) for _ in range(4)]

    async def send(number: int) -> tuple[str, str]:
        session = sessions[number % len(sessions)]
        return session, (await say(client, session, str(number)))["id"]

    sent = await asyncio.gather(*(send(number) for number in range(60)))
    for session in sessions:
        ids = {message_id for place, message_id in sent if place == session}
        async for frame in client.frames(f"{session}/events"):
            if frame.event == "session.idled":
                log = (await client.ok("GET", f"{session}/events", accept="application/json"))["items"]
                taken = {i for event in log if event["type"] == "turn.started" for i in event["data"]["message_ids"]}
                if taken == ids and log[-1]["type"] == "session.idled":
                    break
        stored = [event["data"]["message"]["id"] for event in log if event["type"] == "message.user"]
        assert sorted(stored) == sorted(ids)
        log_checker.check(log, stored)


async def test_turn_keeps_the_configuration_it_has_loaded(client: Rest) -> None:
    """A change to the agent is for the next turn."""
    agent = await client.agent(default_model_id=await client.model("llmsim-slow"))
    session = await client.new_session(agent, model_id=await client.model("llmsim-slow"))
    await say(client, session)
    await client.until(f"{session}/events", "message.delta")
    await client.ok("PATCH", session, {"model_id": await client.model("llmsim-echo")})
    await say(client, session, "again")
    log = await settled(client, session, 2)
    replies = [event["data"]["message"] for event in log if event["type"] == "message.agent"]
    assert [reply["metadata"]["model"] for reply in replies] == ["llmsim-slow", "llmsim-echo"]
    assert replies[1]["content"][0]["text"] == "Echo: again"


# Cancelling


async def test_cancel_while_the_model_streams_ends_the_turn(client: Rest) -> None:
    """turn.failed cancelled, idle, no message of the reply; the next message is answered."""
    session = await new_session(client, "llmsim-slow")
    await say(client, session)
    await client.until(f"{session}/events", "message.delta")
    assert (await client.ok("POST", f"{session}/cancel", {}))["status"] == "active"
    frames = await ended(client, session)
    assert types(frames) == [*BEGIN, "reason.started", "turn.failed", "session.idled"]
    assert only(frames, "turn.failed")["error_code"] == "cancelled"
    assert (await client.ok("GET", session))["status"] == "idle"
    await say(client, session)
    log = await settled(client, session, 2)
    assert [event["type"] for event in log[-2:]] == END


async def test_cancel_does_not_lose_messages_that_wait(client: Rest) -> None:
    """They start the next turn at once."""
    session = await new_session(client, "llmsim-slow")
    first = await say(client, session)
    await client.until(f"{session}/events", "message.delta")
    second = await say(client, session, "and this?")
    await client.ok("POST", f"{session}/cancel", {})
    log = await settled(client, session, 2)
    taken = [event["data"]["message_ids"] for event in log if event["type"] == "turn.started"]
    assert taken == [[first["id"]], [second["id"]]]
    ends = [event["type"] for event in log if event["type"] in ("turn.failed", "turn.completed")]
    assert ends == ["turn.failed", "turn.completed"]


@pytest.fixture(scope="module")
def slow_server() -> Iterator[str]:
    """The address of an MCP server whose tools take 20 seconds."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, naps.__file__, str(port), "20"],
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        stop(process)


@pytest.fixture
async def slow_tools(client: Rest, slow_server: str) -> AsyncIterator[str]:
    """The slow server as a capability."""
    name = f"naps-{uuid.uuid4().hex[:8]}"
    server = await client.ok("POST", "/v1/mcp-servers", {"name": name, "url": slow_server})
    yield str(server["capability_id"])
    await client.ok("DELETE", f"/v1/mcp-servers/{server['id']}")


async def test_cancel_while_tools_run_reports_them_cancelled(client: Rest, slow_tools: str) -> None:
    """Calls that have not ended end as cancelled, and the history of the next turn is whole."""
    session = await new_session(client, "llmsim-tools", capabilities=[slow_tools])
    await say(client, session)
    await client.until(f"{session}/events", "tool.call_started")
    await client.ok("POST", f"{session}/cancel", {})
    frames = await ended(client, session)
    order = types(frames)
    assert order[-5:] == ["tool.call_completed"] * 2 + ["act.completed", "turn.failed", "session.idled"]
    ends = [frame.data["data"] for frame in frames if frame.event == "tool.call_completed"]
    assert all((end["success"], end["status"]) == (False, "cancelled") and end["error"] for end in ends)
    assert only(frames, "act.completed") == {"completed": True, "success_count": 0, "error_count": 2}
    assert only(frames, "turn.failed")["error_code"] == "cancelled"
    await say(client, session, controls={"model_id": await client.model("llmsim-echo")})
    log = await settled(client, session, 2)
    assert [event["type"] for event in log[-2:]] == END
    listed = (await client.ok("GET", f"{session}/messages"))["items"]
    assert [message["role"] for message in listed] == ["user", "agent", "tool_result", "tool_result", "user", "agent"]
    assert all(message["content"][0]["error"] for message in listed if message["role"] == "tool_result")


async def test_tool_that_refuses_is_read_by_the_model(client: Rest) -> None:
    """Its error is a result, the turn goes on to an answer."""
    session = await new_session(client, "llmsim-tools", capabilities=["file_system"])
    await say(client, session)
    frames = await ended(client, session)
    ends = {f.data["data"]["tool_name"]: f.data["data"] for f in frames if f.event == "tool.call_completed"}
    assert (ends["read_file"]["success"], ends["read_file"]["status"]) == (True, "success")
    assert "error" in ends["read_file"]["result"][0]["text"]
    assert types(frames)[-2:] == END


# Limits


@pytest.fixture(scope="module")
def short_yard() -> Iterator[Yard]:
    """A yard whose turns may make one model call."""
    yield from fresh_yard({"CODEYARD_TURN_MAX_ITERATIONS": "1"}, processes=1)


async def test_turn_ends_when_it_makes_too_many_model_calls(short_yard: Yard) -> None:
    """The calls of the last reply still run; the call after them is not made."""
    async with rest(short_yard) as client:
        session = await new_session(client, "llmsim-tools", capabilities=["current_time"])
        await say(client, session)
        frames = await ended(client, session)
    acting = ["act.started", "tool.call_started", "tool.call_completed", "act.completed"]
    assert types(frames) == [*BEGIN, *REPLY, *acting, "turn.failed", "session.idled"]
    assert only(frames, "turn.failed")["error_code"] == "max_iterations"
    assert only(frames, "session.idled")["iterations"] == 1
