"""The events of a turn, each with the payload that proto/codeyard/sessions/v1/event.proto gives it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from codeyard_server.core import canonical
from codeyard_server.core.events import NewEvent
from codeyard_server.models.ports import Reply, ToolCall, ToolSpec
from codeyard_server.turns.logic import step_id

APOLOGY = "Sorry, I could not get an answer from the model. Please try again."
MODEL_FAILED = "The model call failed"
PREVIEW = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """The model of a step, as events name it."""

    name: str
    model_id: uuid.UUID
    provider_id: uuid.UUID
    provider_type: str

    def metadata(self) -> dict[str, Any]:
        """Return it as ModelMetadata."""
        return {"model": self.name, "model_id": str(self.model_id), "provider_id": str(self.provider_id)}


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """How one model call went. ``reply`` is None when it failed."""

    reply: Reply | None
    duration_ms: int
    attempts: int
    history_seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class TurnEvents:
    """Makes the events of one turn."""

    turn_id: uuid.UUID
    input_message_id: uuid.UUID

    def _event(self, kind: str, step: str, data: Mapping[str, Any], ordinal: int = 0) -> NewEvent:
        return NewEvent(
            type=kind,
            data=data,
            turn_id=self.turn_id,
            input_message_id=self.input_message_id,
            exec_id=step_id(self.turn_id, step),
            ordinal=ordinal,
        )

    def started(self, messages: Sequence[Mapping[str, Any]]) -> list[NewEvent]:
        """The turn begins with these messages."""
        about = {"turn_id": str(self.turn_id), "input_message_id": str(self.input_message_id)}
        return [
            self._event("session.activated", "input", about),
            self._event("turn.started", "input", about | {"message_ids": [message["id"] for message in messages]}),
            self._event("input.received", "input", {"message": messages[-1]}),
        ]

    def session_started(self, agent_id: uuid.UUID, model_id: uuid.UUID | None) -> NewEvent:
        """The first turn of the session begins."""
        data = {"agent_id": str(agent_id)}
        if model_id is not None:
            data["model_id"] = str(model_id)
        return self._event("session.started", "input", data)

    def reason_started(self, iteration: int, agent_id: uuid.UUID) -> NewEvent:
        """A model call is due."""
        return self._event("reason.started", f"reason:{iteration}", {"agent_id": str(agent_id)})

    def message_id(self, iteration: int) -> uuid.UUID:
        """Return the id of the reply of a model call; the same when the call is made again."""
        return uuid.uuid5(step_id(self.turn_id, f"reason:{iteration}"), "message")

    def replied(
        self,
        iteration: int,
        model: Model | None,
        generation: Generation,
        tools: Sequence[ToolSpec],
        effort: str | None,
        now: datetime.datetime,
    ) -> list[NewEvent]:
        """A model call has ended: the generation, the message (an apology after a failure), and how it went."""
        step = f"reason:{iteration}"
        reply = generation.reply
        message: dict[str, Any] = {
            "id": str(self.message_id(iteration)),
            "role": "agent",
            "content": _content(reply),
            "metadata": _message_metadata(model, effort),
            "created_at": canonical.timestamp(now),
        }
        stored: dict[str, Any] = {"message": message}
        if model is not None:
            stored["metadata"] = model.metadata()
        if reply is not None and reply.usage is not None:
            stored["usage"] = dataclasses.asdict(reply.usage)
        calls = reply.tool_calls if reply else ()
        completed: dict[str, Any] = {
            "success": reply is not None,
            "text_preview": (reply.text if reply else APOLOGY)[:PREVIEW],
            "has_tool_calls": bool(calls),
            "tool_call_count": len(calls),
        }
        if reply is None:
            completed["error"] = MODEL_FAILED
        return [
            self._event("llm.generation", step, _generation(model, generation, tools)),
            self._event("message.agent", step, stored),
            self._event("reason.completed", step, completed),
        ]

    def act_started(self, iteration: int, calls: Sequence[ToolCall]) -> list[NewEvent]:
        """A batch of calls begins."""
        brief = [{"id": call.id, "name": call.name} for call in calls]
        step = f"act:{iteration}"
        return [
            self._event("act.started", step, {"tool_calls": brief}),
            *(self._event("tool.call_started", step, {"tool_call": _call(call)}, i) for i, call in enumerate(calls)),
        ]

    def tool_ended(
        self, iteration: int, place: int, call: ToolCall, status: str, answer: Any, error: str | None
    ) -> NewEvent:
        """A call has ended; ``answer`` is a JSON value, and left out when there is an error."""
        data: dict[str, Any] = {
            "tool_call_id": call.id,
            "tool_name": call.name,
            "success": status == "success",
            "status": status,
        }
        if error is None:
            data["result"] = [{"type": "text", "text": canonical.text(canonical.integral(answer))}]
        else:
            data["error"] = error
        return self._event("tool.call_completed", f"act:{iteration}", data, place)

    def act_completed(self, iteration: int, successes: int, failures: int) -> NewEvent:
        """All calls of the batch have ended."""
        data = {"completed": True, "success_count": successes, "error_count": failures}
        return self._event("act.completed", f"act:{iteration}", data)

    def completed(self, iterations: int, duration_ms: int) -> list[NewEvent]:
        """The turn ends with an answer."""
        data = {"turn_id": str(self.turn_id), "iterations": iterations, "duration_ms": duration_ms}
        return [self._event("turn.completed", "end", data), self._idled(iterations)]

    def failed(self, iterations: int, code: str, text: str) -> list[NewEvent]:
        """The turn ends without one."""
        data = {"turn_id": str(self.turn_id), "error": text, "error_code": code}
        return [self._event("turn.failed", "end", data), self._idled(iterations)]

    def _idled(self, iterations: int) -> NewEvent:
        return self._event("session.idled", "end", {"turn_id": str(self.turn_id), "iterations": iterations})


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": canonical.integral(dict(call.arguments))}


def _content(reply: Reply | None) -> list[dict[str, Any]]:
    if reply is None:
        return [{"type": "text", "text": APOLOGY}]
    return [{"type": "text", "text": reply.text}, *({"type": "tool_call", **_call(call)} for call in reply.tool_calls)]


def _message_metadata(model: Model | None, effort: str | None) -> dict[str, Any]:
    metadata = {"model": model.name} if model else {}
    return metadata | ({"reasoning_effort": effort} if effort else {})


def _generation(model: Model | None, generation: Generation, tools: Sequence[ToolSpec]) -> dict[str, Any]:
    reply = generation.reply
    output: dict[str, Any] = {}
    metadata: dict[str, Any] = {"model": model.name if model else ""}
    if model is not None:
        metadata["provider"] = model.provider_type
    if reply is not None:
        if reply.text:
            output["text"] = reply.text
        if reply.tool_calls:
            output["tool_calls"] = [_call(call) for call in reply.tool_calls]
        if reply.usage is not None:
            metadata["usage"] = dataclasses.asdict(reply.usage)
        if reply.response_id is not None:
            metadata["response_id"] = reply.response_id
    metadata |= {
        "duration_ms": generation.duration_ms,
        "success": reply is not None,
        "finish_reasons": [reply.finish_reason if reply else "error"],
        "attempts": generation.attempts,
    }
    if reply is None:
        metadata["error"] = MODEL_FAILED
    data: dict[str, Any] = {"history_sequence": generation.history_seq}
    if tools:
        data["tools"] = [{"name": tool.name, "description": tool.description} for tool in tools]
    return data | {"output": output, "metadata": metadata}


def stored_message(data: str) -> Mapping[str, Any]:
    """Return the message inside the payload of an event."""
    message: Mapping[str, Any] = json.loads(data)["message"]
    return message
