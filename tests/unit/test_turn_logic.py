"""The turn's state machine and the history it gives to a model."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from codeyard_server.core import canonical
from codeyard_server.core.events import NewEvent
from codeyard_server.core.record import Record
from codeyard_server.models.ports import Reply, ToolCall
from codeyard_server.turns import logic, payloads

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SESSION, AGENT = uuid.UUID(int=1), uuid.UUID(int=2)
MODEL = payloads.Model("m", uuid.UUID(int=3), uuid.UUID(int=4), "llmsim")


def records(*new: NewEvent) -> list[Record]:
    """Number events as the log does."""
    return [
        Record(SESSION, n, uuid.UUID(int=n), event.type, canonical.text(event.data), NOW, event.turn_id)
        for n, event in enumerate(new, start=1)
    ]


def user(key: str, text: str) -> NewEvent:
    """A stored message of a user."""
    message = {"id": key, "role": "user", "content": [{"type": "text", "text": text}], "created_at": "x"}
    return NewEvent("message.user", {"message": message})


class Turn:
    """Makes the events of one turn."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.events = payloads.TurnEvents(uuid.uuid4(), uuid.uuid4())

    def start(self) -> list[NewEvent]:
        """Start with the messages of these ids."""
        messages = [{"id": key, "role": "user", "content": []} for key in self.keys]
        return [*self.events.started(messages), self.events.reason_started(1, AGENT)]

    def reply(self, iteration: int, text: str, *calls: ToolCall) -> list[NewEvent]:
        """A model's reply, and the start of the calls it makes."""
        generation = payloads.Generation(Reply(text, calls), 1, 1, 1)
        new = self.events.replied(iteration, MODEL, generation, (), None, NOW)
        return [*new, *self.events.act_started(iteration, calls)] if calls else new

    def ended(self, iteration: int, place: int, call: ToolCall, answer: Any) -> NewEvent:
        """A call's end."""
        return self.events.tool_ended(iteration, place, call, "success", answer, None)


def said(messages: Sequence[Any]) -> list[tuple[str, str]]:
    """Return role and text of each message of a history."""
    return [(message.role, "".join(part.text for part in message.content)) for message in messages]


ONE, TWO = ToolCall("c1", "nap", {}), ToolCall("c2", "stamp", {"n": 1})


def test_fold_of_a_turn_that_has_just_started_asks_for_the_first_model_call() -> None:
    """Nothing but the start: reason 1 is due."""
    state = logic.fold(records(*Turn("a").start()))
    assert (state.iteration, state.phase) == (1, "reason")


def test_fold_finds_the_calls_that_have_not_ended() -> None:
    """After a crash in the middle of a batch, the calls with a result are known."""
    turn = Turn("a")
    state = logic.fold(records(*turn.start(), *turn.reply(1, "", ONE, TWO), turn.ended(1, 1, TWO, {})))
    assert (state.iteration, state.phase, state.calls) == (1, "act", (ONE, TWO))
    assert state.finished == {1: True}


def test_fold_tells_calls_with_the_same_id_apart() -> None:
    """A model that repeats an id still gets one result a call."""
    turn = Turn("a")
    same = ToolCall("c1", "stamp", {})
    state = logic.fold(records(*turn.start(), *turn.reply(1, "", ONE, same), turn.ended(1, 0, ONE, {})))
    assert state.finished == {0: True}


def test_fold_after_a_batch_asks_for_the_next_model_call() -> None:
    """All results are there and the next call is announced."""
    turn = Turn("a")
    done = [turn.ended(1, 0, ONE, {}), turn.events.act_completed(1, 1, 0), turn.events.reason_started(2, AGENT)]
    state = logic.fold(records(*turn.start(), *turn.reply(1, "", ONE), *done))
    assert (state.iteration, state.phase, state.calls) == (2, "reason", ())


def test_history_puts_a_message_where_its_turn_starts_and_leaves_later_ones_out() -> None:
    """A message sent while a turn ran comes after that turn's answer; one that no turn has taken is not there."""
    first, second = Turn("a"), Turn("b")
    log = records(
        user("a", "one"), *first.start(), user("b", "two"), *first.reply(1, "answer one"), *second.start(),
        user("c", "x"),
    )  # fmt: skip
    assert said(logic.history(log)) == [("user", "one"), ("assistant", "answer one"), ("user", "two")]


def test_history_gives_every_call_a_result() -> None:
    """A call that never ended is closed before anything else is said."""
    first, second = Turn("a"), Turn("b")
    log = records(
        user("a", "one"), *first.start(), *first.reply(1, "", ONE, TWO), first.ended(1, 1, TWO, {"ok": 1}),
        user("b", "two"), *second.start(),
    )  # fmt: skip
    messages = logic.history(log)
    assert said(messages) == [
        ("user", "one"), ("assistant", ""), ("tool", '{"ok":1}'), ("tool", logic.CANCELLED), ("user", "two"),
    ]  # fmt: skip
    assert [message.tool_call_id for message in messages[2:4]] == ["c2", "c1"]


def test_history_leaves_an_empty_reply_out() -> None:
    """No model takes an empty message."""
    first, second = Turn("a"), Turn("b")
    log = records(user("a", "one"), *first.start(), *first.reply(1, ""), user("b", "two"), *second.start())
    assert said(logic.history(log)) == [("user", "one"), ("user", "two")]


def test_system_prompt_joins_additions_and_own_text_with_empty_lines() -> None:
    """Without additions it is the agent's own text alone."""
    assert logic.system_prompt(["a", "b"], "own") == "a\n\nb\n\nown"
    assert logic.system_prompt([], "own") == "own"


def test_step_ids_are_the_same_for_whoever_runs_the_step() -> None:
    """They follow from the turn and the step alone."""
    turn = uuid.uuid4()
    assert logic.step_id(turn, "act:1") == logic.step_id(turn, "act:1") != logic.step_id(turn, "act:2")
