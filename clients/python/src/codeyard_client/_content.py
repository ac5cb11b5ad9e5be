"""What goes into a message, and the text that comes out of one."""

from __future__ import annotations

import base64
import mimetypes
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from codeyard_client.gen.codeyard.sessions.v1 import (
    ContentPart,
    Controls,
    CreateMessageRequest,
    EventMessage,
    InputMessage,
    Message,
    Reasoning,
)
from codeyard_client.gen.google.protobuf import Struct, Value

Content: TypeAlias = str | ContentPart | Iterable[str | ContentPart]
"""Text, a part, or several of both."""


def parts_of(content: Content) -> list[ContentPart]:
    """Return the parts of a message; a string is a text part."""
    items = [content] if isinstance(content, str | ContentPart) else content
    return [ContentPart(type="text", text=item) if isinstance(item, str) else item for item in items]


def image(source: str | pathlib.Path | bytes, media_type: str | None = None) -> ContentPart:
    """Return an image part.

    ``source`` is a URL (``http:``, ``https:``, ``data:``), a file, or the bytes themselves. ``media_type`` is needed
    for bytes, and for a file whose name does not tell.

    Raises:
        ValueError: the media type is unknown.
        OSError: the file cannot be read.
    """
    if isinstance(source, str) and source.startswith(("http:", "https:", "data:")):
        return ContentPart(type="image", url=source)
    if not isinstance(source, bytes):
        media_type = media_type or mimetypes.guess_type(str(source))[0]
        source = pathlib.Path(source).read_bytes()
    if not media_type:
        raise ValueError("give the media type of the image, such as image/png")
    return ContentPart(type="image", base64=base64.b64encode(source).decode(), media_type=media_type)


def text_of(message: Message | EventMessage) -> str:
    """Return the text parts of a message, joined; empty when it has none."""
    return "".join(part.text or "" for part in message.content if part.type == "text")


class TurnOptions(TypedDict, total=False):
    """What a message may ask of the turn that answers it, and what is stored with it."""

    model_id: str
    """Model to use instead of the session's."""
    effort: str
    """How hard to think: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh``."""
    max_tokens: int
    """Most tokens of one model reply."""
    temperature: float
    """From 0 to 2."""
    metadata: Mapping[str, Any]
    """Free members, stored with the message."""
    tags: Sequence[str]
    """Labels, stored with the message."""
    idempotency_key: str
    """A second message with the same key, within a day, is the first one."""


def message_request(agent_id: str, session_id: str, content: Content, options: TurnOptions) -> CreateMessageRequest:
    """Return the request that sends a message; its key travels beside it."""
    effort, metadata = options.get("effort"), options.get("metadata")
    asked = Controls(
        model_id=options.get("model_id"),
        reasoning=None if effort is None else Reasoning(effort=effort),
        max_tokens=options.get("max_tokens"),
        temperature=options.get("temperature"),
    )
    return CreateMessageRequest(
        agent_id=agent_id,
        session_id=session_id,
        message=InputMessage(content=parts_of(content)),
        controls=asked if bytes(asked) else None,
        metadata=None if metadata is None else Struct.from_dict(dict(metadata)),
        tags=list(options.get("tags", ())),
    )


def strings(values: Iterable[str] | None) -> Value | None:
    """Return the list of an update; None leaves what is there, an empty one clears it."""
    return None if values is None else Value.from_dict(list(values))
