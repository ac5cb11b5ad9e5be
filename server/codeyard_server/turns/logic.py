"""The turn as a state machine folded from its events, and the history a model is given.

    input -> reason -> (act -> reason)* -> completed | failed

A step's id follows from the turn and the step's number, so that whoever runs it again writes under the same id.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from codeyard_server.core.record import Record
from codeyard_server.models.ports import ChatMessage, Image, Text, ToolCall

INTERRUPTED = "The call was interrupted by a restart; whether it had an effect is not known."
CANCELLED = "The call was cancelled."


def step_id(turn_id: uuid.UUID, step: str) -> uuid.UUID:
    """Return the stable id of a step ("input", "reason:1", "act:1", "end") of a turn."""
    return uuid.uuid5(turn_id, step)


@dataclasses.dataclass(slots=True)
class TurnState:
    """Where a turn stands."""

    iteration: int = 0
    """Number of the model call that is due or was last made; from 1."""
    phase: Literal["reason", "act"] = "reason"
    calls: tuple[ToolCall, ...] = ()
    """In phase "act": the calls of the batch."""
    finished: dict[int, bool] = dataclasses.field(default_factory=dict)
    """In phase "act": place of a call that has ended -> whether it succeeded."""


def fold(records: Iterable[Record]) -> TurnState:
    """Return the state of a turn from its events, in order. The turn has started and not ended."""
    state = TurnState()
    reply: tuple[ToolCall, ...] = ()
    for record in records:
        if record.type == "reason.started":
            state.iteration += 1
            state.phase, state.calls, state.finished = "reason", (), {}
        elif record.type == "message.agent":
            reply = tool_calls(json.loads(record.data)["message"]["content"])
        elif record.type == "act.started":
            state.phase, state.calls = "act", reply
        elif record.type == "tool.call_completed":
            data = json.loads(record.data)
            place = next(
                i for i, call in enumerate(state.calls) if call.id == data["tool_call_id"] and i not in state.finished
            )
            state.finished[place] = data["success"]
    return state


def tool_calls(content: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Return the tool calls among the parts of an agent's message."""
    return tuple(
        ToolCall(part["id"], part["name"], part.get("arguments") or {})
        for part in content
        if part["type"] == "tool_call"
    )


def history(records: Iterable[Record]) -> tuple[ChatMessage, ...]:
    """Return what a model is given: each turn's messages, then what the turn made of them.

    A user's message stands where its turn starts, not where it was sent; one that no turn has taken is left out. A
    tool call without a result gets one that says so, for no model takes a history without.
    """
    waiting: dict[str, ChatMessage] = {}
    result: list[ChatMessage] = []
    open_calls: dict[str, None] = {}
    for record in records:
        data = json.loads(record.data)
        if record.type == "turn.started":
            _close(result, open_calls)
            result += [waiting.pop(key) for key in data["message_ids"] if key in waiting]
        elif record.type == "message.user":
            waiting[data["message"]["id"]] = ChatMessage("user", _parts(data["message"]["content"]))
        elif record.type == "tool.call_completed":
            if data["tool_call_id"] in open_calls:
                del open_calls[data["tool_call_id"]]
                result.append(ChatMessage("tool", (Text(tool_text(data)),), tool_call_id=data["tool_call_id"]))
        elif record.type == "message.agent":
            _close(result, open_calls)
            content = data["message"]["content"]
            calls = tool_calls(content)
            open_calls = dict.fromkeys(call.id for call in calls)
            parts = tuple(part for part in _parts(content) if not (isinstance(part, Text) and not part.text))
            if parts or calls:
                result.append(ChatMessage("assistant", parts, calls))
        elif record.type in ("message.system", "message.tool_result"):
            # A message that a client stored under another role: context, as the user gave it.
            _close(result, open_calls)
            result.append(ChatMessage("user", _parts(data["message"]["content"])))
    _close(result, open_calls)
    return tuple(result)


def _close(result: list[ChatMessage], open_calls: dict[str, None]) -> None:
    result += [ChatMessage("tool", (Text(CANCELLED),), tool_call_id=call_id) for call_id in open_calls]
    open_calls.clear()


def _parts(content: Sequence[Mapping[str, Any]]) -> tuple[Text | Image, ...]:
    parts: list[Text | Image] = []
    for part in content:
        if part["type"] == "text":
            parts.append(Text(part["text"]))
        elif part["type"] == "image":
            parts.append(Image(part.get("url"), part.get("base64"), part.get("media_type")))
        elif part["type"] == "tool_result":
            parts.append(Text(json.dumps(part.get("result", part.get("error")))))
    return tuple(parts)


def tool_text(data: Mapping[str, Any]) -> str:
    """Return what a model reads as the result of a call that has ended."""
    for part in data.get("result", ()):
        return str(part["text"])
    return json.dumps({"error": data.get("error", CANCELLED)})


def system_prompt(additions: Sequence[str], own: str) -> str:
    """Return the capabilities' additions and the agent's own prompt, with one empty line between them."""
    return "\n\n".join([*additions, own]) if additions else own


@dataclasses.dataclass(frozen=True, slots=True)
class TurnControls:
    """What the last message of a turn asks of it."""

    model_id: uuid.UUID | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


def controls(message: Mapping[str, Any]) -> TurnControls:
    """Return the controls of a stored message."""
    value = message.get("controls") or {}
    return TurnControls(
        model_id=uuid.UUID(value["model_id"]) if "model_id" in value else None,
        reasoning_effort=(value.get("reasoning") or {}).get("effort"),
        max_tokens=value.get("max_tokens"),
        temperature=value.get("temperature"),
    )
