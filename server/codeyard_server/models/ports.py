"""What the models domain asks of a driver: one streamed generation, in terms no vendor owns.

A driver is an adapter (``adapters/openai_driver.py`` …). It turns a :class:`GenerationRequest` into the vendor's call
and the vendor's stream into :class:`TextDelta` pieces followed by exactly one :class:`Reply`. It never retries:
retries, their back-off and the concurrency limit belong to the turn loop, which must report each attempt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A picture: either an address or bytes in base64 with their media type."""

    url: str | None = None
    base64: str | None = None
    media_type: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. ``arguments`` is a JSON object; ``{}`` when the model sent something else."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the history.

    ``user`` has content; ``assistant`` content and/or tool_calls; ``tool`` one Text and the tool_call_id it answers.
    The system prompt is not a message: see :attr:`GenerationRequest.system`.
    """

    role: Literal["user", "assistant", "tool"]
    content: tuple[Text | Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is offered to the model; ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One model call."""

    model: str
    """The provider's name of the model."""
    system: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TextDelta:
    """A streamed piece of the reply's text; never empty."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call."""

    input_tokens: int
    output_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """The complete reply; ends the stream. ``text`` equals the concatenated deltas."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    finish_reason: Literal["stop", "tool_calls", "length"] = "stop"
    response_id: str | None = None


class ModelError(Exception):
    """A model call failed.

    ``str()`` is for the log and may quote the vendor. ``retryable`` tells a passing failure (429, 5xx, a dropped or
    malformed stream, a timeout, no connection) from one that will repeat (bad key, bad request, unknown model).
    ``retry_after`` is the vendor's own wish in seconds, when it gave one.
    """

    def __init__(self, message: str, *, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class ModelDriver(Protocol):
    """Calls one provider. Safe for concurrent calls; holds one HTTP client."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | Reply]:
        """Stream one reply.

        Yields any number of TextDelta, then one Reply, and ends. Closing the iterator aborts the call.

        Raises:
            ModelError: the call failed, before or during the stream.
        """
        ...

    async def aclose(self) -> None:
        """Close the HTTP client; calls that run are aborted."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What a driver is made from."""

    provider_type: Literal["openai", "anthropic", "azure_openai", "ollama", "custom", "llmsim"]
    base_url: str | None
    """As stored: with or without the protocol's final path (``/v1``, ``/v1/chat/completions``, ``/v1/messages``)."""
    api_key: str | None = dataclasses.field(repr=False)
    timeout_seconds: float = 300.0
    """Longest silence of the vendor before the call fails as retryable."""
