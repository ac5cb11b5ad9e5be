"""How a turn is shown: pieces of a reply as they come, whatever is lost, repeated or late."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from codeyard_cli.chat_view import TurnRecord, TurnView
from codeyard_client import Event
from codeyard_client.gen.codeyard.sessions import v1
from codeyard_client.gen.google.protobuf import Value

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def event(type_: str, seconds: float = 0, **payload: Any) -> Event:
    """Return an event of a turn."""
    time = NOW + datetime.timedelta(seconds=seconds)
    return Event.of(v1.Event(type=type_, ts=time, context=v1.EventContext(turn_id="t"), **payload))


def started() -> Event:
    """A model call begins."""
    return event("reason.started", reason_started=v1.ReasonStarted(agent_id="a"))


def piece(text: str, offset: int, attempt: int = 1, message: str = "m") -> Event:
    """A piece of a reply."""
    delta = v1.MessageDelta(message_id=message, attempt=attempt, offset=offset, delta=text)
    return event("message.delta", message_delta=delta)


def reply(text: str, message: str = "m") -> Event:
    """A complete reply."""
    part = v1.ContentPart(type="text", text=text)
    stored = v1.MessageStored(message=v1.EventMessage(id=message, role="agent", content=[part]))
    return event("message.agent", message_agent=stored)


def call_started(name: str = "add") -> Event:
    """A tool call begins."""
    call = v1.ToolCall(id="c", name=name, arguments=Value.from_dict({"a": 1}))
    return event("tool.call_started", tool_call_started=v1.ToolCallStarted(tool_call=call))


def call_ended(status: str = "success", result: str = '{"result":2}', error: str | None = None) -> Event:
    """A tool call ends, 1.5 s later."""
    parts = [v1.ContentPart(type="text", text=result)] if result else []
    ended = v1.ToolCallCompleted(
        tool_call_id="c", tool_name="add", success=status == "success", status=status, result=parts, error=error
    )
    return event("tool.call_completed", 1.5, tool_call_completed=ended)


def failed(code: str) -> Event:
    """The turn fails."""
    return event("turn.failed", turn_failed=v1.TurnFailed(turn_id="t", error="no answer", error_code=code))


class Screen:
    """Shows events, and returns what each stream got."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, live: bool) -> None:
        self._capsys = capsys
        self._live = live

    def show(self, *events: Event) -> tuple[str, str]:
        """Return what stdout and stderr got."""
        view = TurnView(live=self._live)
        for shown in events:
            view.take(shown)
        view.stop()
        out, err = self._capsys.readouterr()
        return out, err


@pytest.fixture
def live(capsys: pytest.CaptureFixture[str]) -> Screen:
    """Stdout is a terminal."""
    return Screen(capsys, live=True)


@pytest.fixture
def piped(capsys: pytest.CaptureFixture[str]) -> Screen:
    """Stdout is a pipe."""
    return Screen(capsys, live=False)


def test_reply_appears_piece_by_piece_when_it_is_streamed(live: Screen) -> None:
    """What is there is printed before the message is complete."""
    assert live.show(started(), piece("Hel", 0), piece("lo", 3)) == ("Hello", "")
    assert live.show(started(), piece("Hel", 0), piece("lo", 3), reply("Hello")) == ("Hello\n", "")


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [piece("Hel", 0)],
        [piece("lo", 3)],
        [piece("Hel", 0), piece("!", 5)],
        [piece("Hel", 0), piece("Hel", 0), piece("llo", 2)],
        [piece("Hello!", 0)],
    ],
)
def test_reply_is_whole_when_pieces_are_lost_or_repeated(live: Screen, pieces: list[Event]) -> None:
    """The stored message fills in what the pieces left out."""
    assert live.show(started(), *pieces, reply("Hello!"))[0] == "Hello!\n"


def test_reply_begins_on_a_new_line_when_the_model_starts_again(live: Screen) -> None:
    """A new attempt does not go on in the middle of the old one."""
    out, err = live.show(
        started(), piece("Hex", 0), piece("Hel", 0, attempt=2), piece("lo", 3, attempt=2), reply("Hello")
    )
    assert out == "Hex\nHello\n"
    assert "starts again" in err


def test_piece_is_left_out_when_its_message_is_complete(live: Screen) -> None:
    """Live pieces may be later than the stored message."""
    assert live.show(started(), piece("Hel", 0), reply("Hello"), piece("lo", 3))[0] == "Hello\n"


def test_piece_waits_for_its_model_call_when_it_is_early(live: Screen) -> None:
    """Live pieces may be earlier than the stored end of the tool calls before them."""
    first = [started(), reply("Let me see.", "m1"), call_started(), piece("It is", 0, message="m2")]
    out, err = live.show(*first)
    assert out == "Let me see.\n"
    out, err = live.show(*first, call_ended(), started(), piece(" 2.", 5, message="m2"), reply("It is 2.", "m2"))
    assert out == "Let me see.\nIt is 2.\n"
    assert "add" in err


def test_line_ends_when_a_reply_is_cut_off(live: Screen) -> None:
    """After a cancelled turn the prompt stands on its own line."""
    assert live.show(started(), piece("Hel", 0), failed("cancelled"))[0] == "Hel\n"


def test_output_is_whole_messages_when_it_is_piped(piped: Screen) -> None:
    """A pipe gets no piece that could be taken back."""
    pieces = [piece("Hex", 0), piece("Hel", 0, attempt=2)]
    assert piped.show(started(), *pieces)[0] == ""
    assert piped.show(started(), *pieces, reply("Hello"))[0] == "Hello\n"


def test_terminal_is_not_obeyed_when_a_reply_holds_escapes(live: Screen) -> None:
    """A model cannot control the terminal."""
    out, err = live.show(started(), piece("a\x1b[2J", 0), reply("a\x1b[2Jb"), call_started("x\x1b[1m"), call_ended())
    assert (out, "\x1b" in err) == ("a[2Jb\n", False)


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (call_ended(), '✓ add(a=1) [success, 1.5 s] {"result": 2}'),
        (call_ended("error", "", "division by zero"), "✗ add(a=1) [error, 1.5 s] division by zero"),
        (call_ended("success", "not json"), '✓ add(a=1) [success, 1.5 s] "not json"'),
    ],
)
def test_tool_call_is_one_line_on_stderr_when_it_ends(piped: Screen, ended: Event, line: str) -> None:
    """Stdout is for the answer alone."""
    assert piped.show(call_started(), ended) == ("", line + "\n")


def test_record_holds_answer_and_calls_when_the_turn_is_over() -> None:
    """What --output json prints."""
    record = TurnRecord()
    for taken in (started(), reply("Let me see."), call_started(), call_ended(), reply("It is 2.", "m2")):
        record.take(taken)
    call = {"id": "c", "name": "add", "arguments": {"a": 1}, "status": "success", "result": {"result": 2}}
    assert json.loads(json.dumps(record.to_json())) == {"turn_id": "t", "text": "It is 2.", "tool_calls": [call]}


def test_record_says_why_when_the_turn_failed() -> None:
    """The code of a failure is part of the result."""
    record = TurnRecord()
    record.take(failed("max_iterations"))
    assert record.to_json()["error_code"] == "max_iterations"
