"""Puts a streamed reply together; what the drivers of real vendors share above their SDKs."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from codeyard_server.core import canonical
from codeyard_server.models.ports import ModelError, Reply, ToolCall, Usage

MAX_REPLY_CHARACTERS = 1024 * 1024
"""Of text and arguments together. No model writes that much; a broken server must not fill the memory, and the reply
must fit into one answer of the API."""

FinishReason = Literal["stop", "tool_calls", "length"]


@dataclasses.dataclass(slots=True)
class _PartialCall:
    id: str
    name: str
    pieces: list[str]


class ReplyBuilder:
    """Collects the pieces of one reply."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.response_id: str | None = None
        self._text: list[str] = []
        self._calls: list[_PartialCall] = []
        self._call_at: dict[int, _PartialCall] = {}
        self._size = 0

    def add_text(self, piece: str) -> str:
        """Take a piece of the text and return it as it is to be streamed, free of what no database takes."""
        piece = storable(piece)
        self._grow(len(piece))
        self._text.append(piece)
        return piece

    def add_call_piece(self, index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> None:
        """Take a piece of a tool call.

        Args:
            index: which call of the reply it belongs to. Some servers leave it out, others give every call the same; a
                new id then tells that a call begins.
            call_id: in the first piece of a call; made up when it never comes.
            name: likewise.
            arguments: the next characters of the JSON text.
        """
        call = self._call_at.get(index) if index is not None else (self._calls[-1] if self._calls else None)
        if call is None or (call_id and call.id and call_id != call.id):
            call = _PartialCall("", "", [])
            self._calls.append(call)
            if index is not None:
                self._call_at[index] = call
        call.id = call.id or call_id or ""
        call.name = call.name or name or ""
        if arguments:
            self._grow(len(arguments))
            call.pieces.append(arguments)

    def build(self) -> Reply:
        """Return the complete reply.

        Raises:
            ModelError: the stream ended before the model had finished.
        """
        if self.finish_reason is None:
            raise ModelError("The stream ended before the model had finished", retryable=True)
        calls = tuple(call for call in map(self._call, self._calls) if call is not None)
        finish_reason = self.finish_reason
        if finish_reason != "length":
            # Some servers finish with "stop" although they call tools, and the other way round.
            finish_reason = "tool_calls" if calls else "stop"
        return Reply(
            text="".join(self._text),
            tool_calls=calls,
            usage=self.usage,
            finish_reason=finish_reason,
            response_id=self.response_id,
        )

    def _call(self, call: _PartialCall) -> ToolCall | None:
        """Return the finished call; None for one that the token limit cut: it must not run with half its arguments."""
        if not call.name:
            raise ModelError("The model calls a tool without a name", retryable=True)
        arguments = parse_arguments("".join(call.pieces))
        if arguments is None:
            if self.finish_reason == "length":
                return None
            arguments = {}
        return ToolCall(call.id or f"call_{uuid.uuid4().hex[:24]}", call.name, arguments)

    def _grow(self, characters: int) -> None:
        self._size += characters
        if self._size > MAX_REPLY_CHARACTERS:
            raise ModelError(f"The reply is longer than {MAX_REPLY_CHARACTERS} characters", retryable=False)


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Return the JSON object in text, ``{}`` for no text at all, or None when it is anything else."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        return _storable_object(value) if isinstance(value, dict) and not canonical.is_too_deep(value) else None
    except (ValueError, RecursionError):
        return None


def storable(text: str) -> str:
    """Return text with U+FFFD for NUL and for halves of surrogate pairs: neither UTF-8 nor PostgreSQL has them."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _storable_object(value: Mapping[str, Any]) -> dict[str, Any]:
    return {storable(name): _storable_value(item) for name, item in value.items()}


def _storable_value(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable_value(item) for item in value]
    return _storable_object(value) if isinstance(value, dict) else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is out of range")
    return number
