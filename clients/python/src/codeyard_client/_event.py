"""One event of a session, as ``events`` yields it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, TypeAlias

import betterproto2

from codeyard_client._json import to_json
from codeyard_client.gen.codeyard.sessions import v1

Payload: TypeAlias = (
    v1.MessageStored
    | v1.MessageDelta
    | v1.SessionStarted
    | v1.SessionActivated
    | v1.SessionIdled
    | v1.TurnStarted
    | v1.TurnCompleted
    | v1.TurnFailed
    | v1.ReasonStarted
    | v1.ReasonCompleted
    | v1.ActStarted
    | v1.ActCompleted
    | v1.ToolCallStarted
    | v1.ToolCallCompleted
    | v1.LlmGeneration
)
"""What an event says, by its type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One entry of a session's log, or a live one such as ``message.delta``, which is not stored.

    ``data`` is the payload; tell payloads apart with ``match`` or ``isinstance``, or by ``type``. It is None where the
    yard is newer than this client and sends a type that it does not know.
    """

    type: str
    data: Payload | None
    id: str | None
    """The cursor to resume after; None on a live event."""
    sequence: int | None
    """From 1, without gaps; None on a live event."""
    session_id: str
    turn_id: str | None
    ts: datetime.datetime
    message: v1.Event
    """The event as it was sent."""

    @classmethod
    def of(cls, message: v1.Event) -> Event:
        """Wrap an event as it was sent."""
        data: Any = betterproto2.which_one_of(message, "payload")[1]
        return cls(
            type=message.type,
            data=data,
            id=message.id or None,
            sequence=message.sequence,
            session_id=message.session_id,
            turn_id=message.context.turn_id if message.context else None,
            ts=message.ts or datetime.datetime.fromtimestamp(0, datetime.UTC),
            message=message,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the event as the REST face prints it."""
        sent = self.message
        head: dict[str, Any] = {"id": self.id} if self.id else {}
        head |= {"type": self.type, "ts": to_json(self.ts), "session_id": self.session_id}
        head |= {"context": to_json(sent.context) or {}, "data": {} if self.data is None else to_json(self.data)}
        if sent.metadata:
            head["metadata"] = to_json(sent.metadata)
        if sent.tags:
            head["tags"] = list(sent.tags)
        return head | ({"sequence": self.sequence} if self.sequence else {})
