"""From the log to what clients see: messages, typed events, JSON, SSE frames."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from codeyard.sessions.v1 import event_pb2, event_service_pb2, message_pb2
from google.protobuf import json_format

from codeyard_server.core import canonical
from codeyard_server.core.record import Record
from codeyard_server.core.rpc import Projection

# Event type -> member of the payload oneof.
PAYLOADS = {
    "message.user": "message_user",
    "message.agent": "message_agent",
    "message.system": "message_other",
    "message.tool_result": "message_other",
    "message.delta": "message_delta",
    "session.started": "session_started",
    "session.activated": "session_activated",
    "session.idled": "session_idled",
    "turn.started": "turn_started",
    "turn.completed": "turn_completed",
    "turn.failed": "turn_failed",
    "input.received": "input_received",
    "reason.started": "reason_started",
    "reason.completed": "reason_completed",
    "act.started": "act_started",
    "act.completed": "act_completed",
    "tool.call_started": "tool_call_started",
    "tool.call_completed": "tool_call_completed",
    "llm.generation": "llm_generation",
}

_SSE = "sse"
_JSON = "json"


def message(record: Record) -> message_pb2.Message:
    """Return the message that an event of the conversation holds."""
    data = json.loads(record.data)
    if record.type == "tool.call_completed":
        assert record.id is not None
        data = {"message": tool_result(record.id, data)}
    value: dict[str, Any] = data["message"]
    value.setdefault("created_at", canonical.timestamp(record.created_at))
    result = json_format.ParseDict(value, message_pb2.Message(), ignore_unknown_fields=True)
    result.session_id = str(record.stream_id)
    result.sequence = record.seq
    result.tags.extend(record.tags or ())
    return result


def tool_result(event_id: uuid.UUID, data: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call's end as the message it is in the conversation; its id follows from the event's."""
    part: dict[str, Any] = {"type": "tool_result", "tool_call_id": data["tool_call_id"]}
    texts = [item["text"] for item in data.get("result", ()) if item.get("type") == "text"]
    if texts:
        part["result"] = json.loads(texts[0])
    if "error" in data:
        part["error"] = data["error"]
    return {
        "id": str(uuid.uuid5(event_id, "message")),
        "role": "tool_result",
        "content": [part],
        "tool_call_id": data["tool_call_id"],
    }


def event_json(record: Record) -> bytes:
    """Return an event as canonical JSON; made once per event."""
    cached = record.frames.get(_JSON)
    if cached is not None:
        return cached
    context = {
        name: str(value)
        for name, value in (
            ("turn_id", record.turn_id),
            ("input_message_id", record.input_message_id),
            ("exec_id", record.exec_id),
        )
        if value is not None
    }
    head: dict[str, Any] = {} if record.id is None else {"id": str(record.id)}
    head |= {
        "type": record.type,
        "ts": canonical.timestamp(record.created_at),
        "session_id": str(record.stream_id),
        "context": context,
    }
    tail: dict[str, Any] = {}
    if record.seq:
        tail = {"tags": list(record.tags or ()), "sequence": record.seq}
    # The payload is printed already: it goes in as it is.
    text = canonical.text(head)[:-1] + ',"data":' + record.data
    text += "," + canonical.text(tail)[1:] if tail else "}"
    record.frames[_JSON] = text.encode()
    return record.frames[_JSON]


def frame(record: Record) -> bytes:
    """Return an event as one SSE frame; made once per event, its bytes are shared by all subscribers."""
    cached = record.frames.get(_SSE)
    if cached is None:
        cursor = b"" if record.id is None else b"id: " + str(record.id).encode() + b"\n"
        cached = b"event: " + record.type.encode() + b"\n" + cursor + b"data: " + event_json(record) + b"\n\n"
        record.frames[_SSE] = cached
    return cached


def frames(batch: Sequence[Record] | None) -> bytes:
    """Return a batch as frames; silence (None) and the opening of a stream ([]) as a comment."""
    return b"".join(map(frame, batch)) if batch else b":\n\n"


def typed_event(record: Record) -> event_pb2.Event:
    """Return an event with its typed payload."""
    result = event_pb2.Event(
        id="" if record.id is None else str(record.id),
        type=record.type,
        session_id=str(record.stream_id),
        tags=record.tags or (),
    )
    result.ts.FromDatetime(record.created_at)
    if record.seq:
        result.sequence = record.seq
    if record.turn_id:
        result.context.turn_id = str(record.turn_id)
    if record.input_message_id:
        result.context.input_message_id = str(record.input_message_id)
    if record.exec_id:
        result.context.exec_id = str(record.exec_id)
    result.context.SetInParent()
    payload = getattr(result, PAYLOADS[record.type])
    payload.SetInParent()
    json_format.Parse(record.data, payload, ignore_unknown_fields=True)
    return result


def typed_events(batch: Sequence[Record] | None) -> Sequence[event_pb2.Event]:
    """Return a batch as typed events; silence is nothing."""
    return [typed_event(record) for record in batch or ()]


def typed_list(records: Sequence[Record]) -> Sequence[event_service_pb2.ListEventsResponse]:
    """Return stored events as the typed answer of ListEvents."""
    return [event_service_pb2.ListEventsResponse(items=typed_events(records), total=len(records))]


def json_list(records: Sequence[Record]) -> bytes:
    """Return stored events as the JSON answer of ListEvents, in the canonical text."""
    items = b"[" + b",".join(map(event_json, records)) + b"]"
    return b'{"items":' + items + b',"data":' + items + b',"total":' + str(len(records)).encode() + b"}"


def documents(batch: Sequence[Record] | None) -> Iterator[bytes]:
    """Return a batch as the frames of a WebSocket, each the JSON of an event as in SSE; silence is nothing."""
    return map(event_json, batch or ())


def shared(batch: Sequence[Record] | None) -> dict[str, bytes] | None:
    """Return where the answer for a batch of one event is kept; readers who are up to date all get such batches."""
    return batch[0].frames if batch and len(batch) == 1 else None


STREAM = Projection(
    typed=typed_events, http=frames, content_type="text/event-stream", documents=documents, cache=shared
)
LIST = Projection(typed=typed_list, http=json_list, content_type="application/json")
