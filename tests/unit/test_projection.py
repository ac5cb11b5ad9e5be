"""What the log stores is what the proto says: every event's payload fits its typed message, member by member."""

from __future__ import annotations

import datetime
import json
import uuid

import pytest
from codeyard.sessions.v1 import event_pb2
from codeyard.sessions.v1 import message_service_pb2 as api
from codeyard_server.core import canonical
from codeyard_server.core.events import NewEvent
from codeyard_server.core.record import Record
from codeyard_server.models.ports import Reply, ToolCall, ToolSpec, Usage
from codeyard_server.sessions import logic, projection
from codeyard_server.turns import payloads
from google.protobuf import json_format

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.UTC)
SESSION, AGENT = uuid.uuid4(), uuid.uuid4()
MODEL = payloads.Model("gpt", uuid.uuid4(), uuid.uuid4(), "openai")
CALL = ToolCall("c1", "add", {"a": 1, "b": 2.5, "list": [1, None, {"x": True}]})
TOOLS = (ToolSpec("add", "Adds.", {"type": "object"}),)


def user_message() -> NewEvent:
    """A message with everything a client can send."""
    request = api.CreateMessageRequest(agent_id=str(AGENT), session_id=str(SESSION), tags=["a"])
    request.message.content.add(type="text", text="Look: ü \n")
    request.message.content.add(type="image", base64="AAAA", media_type="image/png")
    request.controls.reasoning.effort = "low"
    request.controls.max_tokens = 10
    request.metadata.update({"n": 3, "deep": {"list": [1, "two"]}})
    return logic.draft_message(request, NOW).event()


def all_events() -> list[NewEvent]:
    """Every event that the server writes, in its fullest form and in its barest."""
    turn = payloads.TurnEvents(uuid.uuid4(), uuid.uuid4())
    message = user_message().data["message"]
    reply = Reply("Hello", (CALL,), Usage(1, 2), "tool_calls", "resp_1")
    return [
        user_message(),
        turn.session_started(AGENT, MODEL.model_id),
        turn.session_started(AGENT, None),
        *turn.started([message]),
        turn.reason_started(1, AGENT),
        *turn.replied(1, MODEL, payloads.Generation(reply, 12, 1, 4), TOOLS, "low", NOW),
        *turn.replied(2, None, payloads.Generation(None, 0, 3, 4), (), None, NOW),
        *turn.act_started(1, [CALL]),
        turn.tool_ended(1, 0, CALL, "success", {"result": 3.5}, None),
        turn.tool_ended(1, 0, CALL, "timeout", None, "too slow"),
        turn.act_completed(1, 1, 0),
        *turn.completed(2, 34),
        *turn.failed(1, "llm_error", "no answer"),
    ]


def record(event: NewEvent, seq: int = 7) -> Record:
    """The event as the log returns it."""
    return Record(
        SESSION, seq, uuid.uuid4(), event.type, canonical.text(event.data), NOW, event.turn_id,
        event.input_message_id, event.exec_id, event.tags,
    )  # fmt: skip


@pytest.mark.parametrize("event", all_events(), ids=lambda event: event.type)
def test_stored_payload_is_exactly_its_typed_message(event: NewEvent) -> None:
    """Read into the message and printed again, it has the same members and values: no stranger, none lost."""
    payload = getattr(event_pb2.Event(), projection.PAYLOADS[event.type])
    json_format.ParseDict(event.data, payload)  # refuses unknown members
    printed = json_format.MessageToDict(
        payload, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert _without_empty(canonical.integral(printed)) == _without_empty(event.data)


def test_every_payload_of_the_proto_has_its_event_type() -> None:
    """The table names each member of the oneof."""
    members = {field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    assert set(projection.PAYLOADS.values()) == members


@pytest.mark.parametrize("event", all_events(), ids=lambda event: event.type)
def test_json_frame_and_typed_event_tell_the_same(event: NewEvent) -> None:
    """One event, three faces: the same ids, context, sequence and payload."""
    stored = record(event)
    value = json.loads(projection.event_json(stored))
    typed = projection.typed_event(stored)
    assert value["id"] == typed.id and value["sequence"] == typed.sequence == 7
    assert value["context"].get("turn_id", "") == typed.context.turn_id
    assert value["ts"] == "2026-01-02T03:04:05.678Z" and typed.ts.ToJsonString() == value["ts"]
    assert value["data"] == json.loads(stored.data)
    lines = projection.frame(stored).decode().split("\n")
    assert lines[0] == f"event: {event.type}" and lines[1] == f"id: {typed.id}"
    assert json.loads(lines[2].removeprefix("data: ")) == value and lines[3:] == ["", ""]


def test_live_event_has_neither_cursor_nor_sequence() -> None:
    """A client cannot resume at something that is not stored."""
    data = canonical.text({"message_id": "m", "attempt": 1, "offset": 0, "delta": "He"})
    live = Record(SESSION, 0, None, "message.delta", data, NOW)
    assert b"id:" not in projection.frame(live).partition(b"data:")[0]
    assert {"id", "sequence"}.isdisjoint(json.loads(projection.event_json(live)))


def _without_empty(value: object) -> object:
    """Leave out what is printed as zero or empty on one side and left out on the other."""
    if isinstance(value, dict):
        cleaned = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in ("", 0, [], {}, False)}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value
