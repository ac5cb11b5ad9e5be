"""Checks the log of a session against what a client knows: nothing lost, nothing doubled, nothing from elsewhere."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

TYPES = {
    "message.user", "message.agent", "session.started", "session.activated", "session.idled", "turn.started",
    "turn.completed", "turn.failed", "input.received", "reason.started", "reason.completed", "act.started",
    "act.completed", "tool.call_started", "tool.call_completed", "llm.generation",
}  # fmt: skip


def check(events: Sequence[dict[str, Any]], acknowledged: Sequence[str]) -> None:
    """Check a log against the ids of the messages whose storing was acknowledged, in the order of their sending.

    * sequences run from 1 without a gap, ids grow, no type and no turn is a stranger;
    * the message_ids of the turns partition the acknowledged messages, in order;
    * each turn has one end and one answer, each tool call one start and one end, within its own turn.
    """
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    assert {event["type"] for event in events} <= TYPES
    stored = [event["data"]["message"]["id"] for event in events if event["type"] == "message.user"]
    assert sorted(stored) == sorted(acknowledged)
    started = [event for event in events if event["type"] == "turn.started"]
    taken = [message_id for event in started for message_id in event["data"]["message_ids"]]
    assert taken == stored
    turns: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for event in events:
        if event["type"] != "message.user":
            turns[event["context"]["turn_id"]].append(event)
    assert list(turns) == [event["data"]["turn_id"] for event in started]
    for turn in turns.values():
        _check_turn(turn)


def _check_turn(turn: Sequence[dict[str, Any]]) -> None:
    types = collections.Counter(event["type"] for event in turn)
    assert types["turn.started"] == types["session.activated"] == types["session.idled"] == 1
    assert types["turn.completed"] == 1 and types["turn.failed"] == 0, turn[-2]["data"]
    assert [event["type"] for event in turn[-2:]] == ["turn.completed", "session.idled"]
    replies = [event["data"]["message"]["content"] for event in turn if event["type"] == "message.agent"]
    answers = [parts for parts in replies if all(part["type"] != "tool_call" for part in parts)]
    assert len(answers) == 1 and replies[-1] == answers[0]
    assert types["reason.started"] == types["reason.completed"] == types["llm.generation"] == len(replies)
    calls = [part["id"] for parts in replies for part in parts if part["type"] == "tool_call"]
    begun = [event["data"]["tool_call"]["id"] for event in turn if event["type"] == "tool.call_started"]
    ended = [event["data"]["tool_call_id"] for event in turn if event["type"] == "tool.call_completed"]
    assert calls == begun and sorted(calls) == sorted(ended)
