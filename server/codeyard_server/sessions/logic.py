"""Rules of sessions and messages that no annotation can say."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from codeyard.sessions.v1 import message_pb2
from codeyard.sessions.v1 import message_service_pb2 as message_api
from codeyard.sessions.v1 import session_service_pb2 as session_api
from google.protobuf import json_format

from codeyard_server.core import canonical, errors, paging
from codeyard_server.core.bounds import check_bounds
from codeyard_server.core.events import NewEvent
from codeyard_server.core.ids import new_id

STARTED = "started"
ACTIVE = "active"
IDLE = "idle"

# What a client may call a role -> what is stored.
_ROLES = {
    "user": "user",
    "agent": "agent",
    "assistant": "agent",
    "tool_call": "agent",
    "tool_result": "tool_result",
    "system": "system",
}
# Type of a content part -> its other members.
_MEMBERS = {
    "text": ("text",),
    "image": ("url", "base64", "media_type"),
    "tool_call": ("id", "name", "arguments"),
    "tool_result": ("tool_call_id", "result", "error"),
}
MAX_PARTS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class SessionDraft:
    """A session that is about to be stored."""

    id: uuid.UUID
    agent_id: uuid.UUID
    title: str | None
    tags: list[str]
    model_id: uuid.UUID | None
    now: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message that is about to be stored, as JSON values."""

    id: uuid.UUID
    role: str
    content: list[dict[str, Any]]
    tool_call_id: str | None
    controls: dict[str, Any] | None
    metadata: dict[str, Any] | None
    tags: list[str]
    now: datetime.datetime

    @property
    def starts_turn(self) -> bool:
        """Whether a turn must answer it."""
        return self.role == "user"

    def event(self) -> NewEvent:
        """Return the event that stores it."""
        message: dict[str, Any] = {"id": str(self.id), "role": self.role, "content": self.content}
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.controls:
            message["controls"] = self.controls
        if self.metadata:
            message["metadata"] = self.metadata
        message["created_at"] = canonical.timestamp(self.now)
        return NewEvent(type=f"message.{self.role}", data={"message": message}, tags=self.tags or None)


def draft_session(
    request: session_api.CreateSessionRequest, agents_model: uuid.UUID | None, now: datetime.datetime
) -> SessionDraft:
    """Return the session a request asks for; without a model it takes the agent's."""
    return SessionDraft(
        id=new_id(),
        agent_id=uuid.UUID(request.agent_id),
        title=request.title if request.HasField("title") else None,
        tags=list(request.tags),
        model_id=uuid.UUID(request.model_id) if request.HasField("model_id") else agents_model,
        now=now,
    )


def draft_message(request: message_api.CreateMessageRequest, now: datetime.datetime) -> MessageDraft:
    """Return the message a request holds, in whichever of the three forms.

    Raises:
        InvalidArgument: there is no content, a part is of another type or lacks its value, a text holds NUL, a value is
            nested too deeply.
    """
    if request.HasField("message"):
        role = request.message.role or "user"
        parts = [part_value(part) for part in request.message.content]
    else:
        role = _ROLES[request.role or "user"]
        parts = _loose_content(request, role)
    _check_parts(parts, role, with_calls=role not in ("user", "system") and not request.HasField("message"))
    draft = MessageDraft(
        id=new_id(),
        role=role,
        content=parts,
        tool_call_id=request.tool_call_id if request.HasField("tool_call_id") else None,
        controls=_json(request.controls) if request.HasField("controls") else None,
        metadata=_json(request.metadata) if request.HasField("metadata") else None,
        tags=list(request.tags),
        now=now,
    )
    refuse_nul([draft.content, draft.controls, draft.metadata, draft.tags, draft.tool_call_id])
    _refuse_deep(draft.metadata)
    return draft


def _loose_content(request: message_api.CreateMessageRequest, role: str) -> list[dict[str, Any]]:
    if not request.HasField("content"):
        raise errors.InvalidArgument("A message needs content")
    value = canonical.integral(json_format.MessageToDict(request.content))
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            return [{"type": "text", "text": value["text"]}]
        if request.role == "tool_call":
            value = [{"arguments": {}, **value, "type": "tool_call"}]
        elif role == "tool_result":
            outcome = value if value.keys() & {"result", "error"} else {"result": value}
            value = [{**outcome, "type": "tool_result", "tool_call_id": request.tool_call_id}]
    if isinstance(value, list):
        return _parts(value)
    raise errors.InvalidArgument("content must be text, an object with text, or an array of parts")


def _parts(values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return parts that came as free JSON, within the bounds that typed ones have."""
    parsed = message_api.InputMessage()
    try:
        for value in values[: MAX_PARTS + 1]:
            json_format.ParseDict(value, parsed.content.add(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise errors.InvalidArgument("content holds something that is no content part") from error
    check_bounds(parsed)
    return [part_value(part) for part in parsed.content]


def part_value(part: message_pb2.ContentPart) -> dict[str, Any]:
    """Return a part as a JSON value, with the members its type has."""
    value = _json(part)
    return {name: value[name] for name in ("type", *_MEMBERS[part.type]) if name in value}


def _json(message: Any) -> dict[str, Any]:
    value: dict[str, Any] = canonical.integral(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return value


def _check_parts(parts: Sequence[dict[str, Any]], role: str, *, with_calls: bool) -> None:
    if not parts:
        raise errors.InvalidArgument("A message needs at least one content part")
    allowed = {"text", "image", "tool_call", "tool_result"} if with_calls else {"text", "image"}
    for part in parts:
        kind = part.get("type")
        if kind not in allowed:
            raise errors.InvalidArgument(f"A content part of type {kind!r} is not allowed here; use text or image")
        if kind == "text" and not isinstance(part.get("text"), str):
            raise errors.InvalidArgument("A text part needs text")
        if kind == "image" and not ("url" in part) ^ ("base64" in part):
            raise errors.InvalidArgument("An image part needs either url or base64")
        if kind == "image" and "base64" in part:
            _check_image(part)
        if kind in ("tool_call", "tool_result"):
            _check_call(part)
    if role == "user" and all(part["type"] == "text" and not part["text"].strip() for part in parts):
        raise errors.InvalidArgument("A message must not be blank")


def _check_call(part: dict[str, Any]) -> None:
    """A history with half a call would fail every later turn of the session."""
    _refuse_deep(part.get("arguments", part.get("result")))
    if part["type"] == "tool_result":
        if not part.get("tool_call_id"):
            raise errors.InvalidArgument("A tool_result part needs tool_call_id")
    elif not (part.get("id") and part.get("name") and isinstance(part.get("arguments"), dict)):
        raise errors.InvalidArgument("A tool_call part needs id, name and an object of arguments")


def _check_image(part: dict[str, Any]) -> None:
    if not part.get("media_type", "").startswith("image/"):
        raise errors.InvalidArgument("An image part with base64 needs a media_type such as image/png")
    try:
        base64.b64decode(part["base64"], validate=True)
    except ValueError as error:
        raise errors.InvalidArgument("An image part's base64 is not base64") from error


def _refuse_deep(value: Any) -> None:
    if canonical.is_too_deep(value):
        raise errors.InvalidArgument(f"A value is nested by more than {canonical.MAX_DEPTH} levels")


def refuse_nul(value: Any) -> None:
    """Refuse NUL characters anywhere in a JSON value: no text of the product may hold one.

    Raises:
        InvalidArgument: there is one.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise errors.InvalidArgument("A text holds the NUL character")
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_nul(key)
            refuse_nul(item)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_nul(item)


@dataclasses.dataclass(frozen=True, slots=True)
class MessagePage:
    """A page of the conversation; ``after`` is a sequence."""

    after: int
    limit: int
    offset: int


def message_page(request: message_api.ListMessagesRequest) -> MessagePage:
    """Return the page a request asks for; the token of this list is the last sequence.

    Raises:
        InvalidArgument: the token is not one, or it comes together with an offset.
    """
    limit = request.limit if request.HasField("limit") else paging.DEFAULT_LIMIT
    if not request.HasField("page_token"):
        return MessagePage(0, limit, request.offset)
    token = request.page_token
    if request.offset or not (token.isascii() and token.isdigit() and len(token) < 10):
        raise errors.InvalidArgument("page_token is not a token of this list, or comes together with offset")
    return MessagePage(int(token), limit, 0)


def cursor(header: str | None, since_id: str) -> uuid.UUID | None:
    """Return the event to read after: the header Last-Event-ID, else since_id, else None.

    Raises:
        InvalidArgument: the header is no UUID.
    """
    if not header:
        return uuid.UUID(since_id) if since_id else None
    try:
        return uuid.UUID(header)
    except ValueError as error:
        raise errors.InvalidArgument("Last-Event-ID must be the id of an event") from error
