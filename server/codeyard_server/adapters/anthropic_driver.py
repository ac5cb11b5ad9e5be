"""Drives Anthropic's messages API and servers that speak it.

Implements :class:`codeyard_server.models.ports.ModelDriver` over the vendor's SDK. Three facts shape the code:

* The roles alternate, so neighbours of one role become one message, and tool results are blocks of a user message.
* The SDK speaks a newer version of the API than compatible servers; the one before is asked for, which also still takes
  a temperature.
* Models up to 4.5 think within a budget of tokens, and want their signed thoughts back with the results of the tools
  they called. The history does not hold those, so they think at the start of a turn and not between tool calls. Models
  since 4.6 judge for themselves by the effort, and do without.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, cast

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from codeyard_server.adapters import model_http
from codeyard_server.adapters.model_errors import model_error
from codeyard_server.adapters.model_reply import FinishReason, ReplyBuilder
from codeyard_server.models.ports import (
    ChatMessage,
    GenerationRequest,
    Image,
    ModelError,
    ProviderConfig,
    Reply,
    Text,
    TextDelta,
    ToolSpec,
    Usage,
)

API_VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096
THINKING_BUDGETS = {"low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768}
"""Tokens of thought per reasoning effort; the other efforts do not think."""

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(?P<major>\d{1,2})(?:-(?P<minor>\d{1,2}))?(?!\d)")
_FIRST_ADAPTIVE = (4, 6)

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
_OPENING = "(The assistant begins.)"
"""Stands in where a history begins with the assistant: the API wants a user message first."""

_DATA_URL = re.compile(r"data:(?P<media_type>[^;,]+);base64,(?P<data>.*)", re.DOTALL)

_Stream = anthropic.AsyncStream[RawMessageStreamEvent]


class AnthropicDriver:
    """Calls one provider of the type anthropic.

    Args:
        config: of the provider.
        transport: dials in place of the HTTP client's own; closed with the driver.

    Raises:
        ModelError: the base URL or the key cannot be used.
    """

    def __init__(self, config: ProviderConfig, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._key = model_http.usable_key(config, required=True)
        endpoint = model_http.anthropic_endpoint(config.base_url)
        http = model_http.http_client(config, transport)
        self._client = anthropic.AsyncAnthropic(
            api_key=self._key,
            base_url=endpoint.url,
            default_query=endpoint.query,
            timeout=http.timeout,
            max_retries=0,
            http_client=http,
            open_telemetry=False,
        )
        # This takes back what the SDK read from the environment: an account's headers have no business at another
        # provider. Compatible servers look for the key in one of two headers; the vendor's own need not get both.
        self._client._custom_headers = {"anthropic-version": API_VERSION}
        if not model_http.is_anthropic(endpoint):
            self._client._custom_headers["X-Api-Key"] = self._key
        # Loads the modules of this API now: the first call would stop the event loop for their import.
        self._create = cast(Callable[..., Awaitable[_Stream]], self._client.messages.create)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | Reply]:
        """Stream one reply; see ModelDriver.generate."""
        reader = _Reader()
        async with await self._open(request) as stream:
            try:
                async for event in stream:
                    if piece := reader.take(event):
                        yield TextDelta(piece)
                complete = reader.reply.build()
            except Exception as error:  # noqa: BLE001 - the SDK raises whatever the vendor's bytes make it raise
                raise self._failure(error) from None
        yield complete

    async def aclose(self) -> None:
        """Close the HTTP client; calls that run are aborted."""
        await self._client.close()

    async def _open(self, request: GenerationRequest) -> _Stream:
        parameters = _parameters(request)
        try:
            return await self._create(**parameters)
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> ModelError:
        """Return what to raise in place of an error, without it as context: its request holds the key."""
        return model_error(error, vendor="Anthropic", secret=self._key)


class _Reader:
    """Reads the events of one stream into a reply. The SDK does not validate them, so any member can be missing."""

    def __init__(self) -> None:
        self.reply = ReplyBuilder()
        self._input_tokens = 0
        self._output_tokens = 0

    def take(self, event: RawMessageStreamEvent) -> str:
        """Put an event into the reply and return its piece of text, mostly empty."""
        match event.type:
            case "message_start":
                self.reply.response_id = event.message.id
                self._count(event.message.usage)
            case "content_block_start":
                return self._start_block(event.index, event.content_block)
            case "content_block_delta":
                return self._take_delta(event.index, event.delta)
            case "message_delta":
                self._count(event.usage)
                self._finish(event.delta.stop_reason)
        return ""

    def _start_block(self, index: int, block: Any) -> str:
        if block.type == "tool_use":
            whole = json.dumps(block.input) if block.input else None
            self.reply.add_call_piece(index, block.id, block.name, whole)
        return self.reply.add_text(block.text) if block.type == "text" and block.text else ""

    def _take_delta(self, index: int, delta: Any) -> str:
        if delta.type == "input_json_delta":
            self.reply.add_call_piece(index, None, None, delta.partial_json)
        return self.reply.add_text(delta.text) if delta.type == "text_delta" and delta.text else ""

    def _finish(self, stop_reason: str | None) -> None:
        if stop_reason == "refusal":
            raise ModelError("The vendor's safety rules withheld the reply", retryable=False)
        if stop_reason:
            self.reply.finish_reason = _FINISH_REASONS.get(stop_reason, "stop")

    def _count(self, usage: Any) -> None:
        """Take the counts, which are totals so far. Tokens written to or read from the vendor's cache are input too."""
        if not usage:
            return
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        self._input_tokens = sum(getattr(usage, name, None) or 0 for name in names) or self._input_tokens
        self._output_tokens = usage.output_tokens or self._output_tokens
        self.reply.usage = Usage(self._input_tokens, self._output_tokens)


def _parameters(request: GenerationRequest) -> dict[str, Any]:
    max_tokens = request.max_tokens or DEFAULT_MAX_TOKENS
    budget = _thinking_budget(request)
    optional: dict[str, Any] = {
        "system": request.system or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
    }
    if budget:
        if max_tokens <= budget:
            max_tokens += budget
        optional |= _thinking(request, budget)
    elif request.temperature is not None:
        # A model that thinks takes none. The SDK has no parameter for it, because the API's newest version has none.
        optional["extra_body"] = {"temperature": request.temperature}
    return {
        "model": request.model,
        "messages": _messages(request.messages),
        "max_tokens": max_tokens,
        "stream": True,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _thinking_budget(request: GenerationRequest) -> int:
    """Return the tokens to leave for thoughts; 0 when the model is not to think or could not."""
    last = next((message for message in reversed(request.messages) if message.role == "assistant"), None)
    if last is not None and last.tool_calls and not _is_adaptive(request.model):
        return 0
    return THINKING_BUDGETS.get(request.reasoning_effort or "", 0)


def _thinking(request: GenerationRequest, budget: int) -> dict[str, Any]:
    if _is_adaptive(request.model):
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": request.reasoning_effort}}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _is_adaptive(model: str) -> bool:
    """Whether the model takes an effort in place of a budget. A name without a version does not tell, and takes one."""
    version = _VERSION.search(model)
    return version is not None and (int(version["major"]), int(version["minor"] or 0)) >= _FIRST_ADAPTIVE


def _messages(history: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """Return the history as alternating messages that begin with a user's."""
    messages: list[dict[str, Any]] = []
    for message in history:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        if not messages and role == "assistant":
            messages.append({"role": "user", "content": [{"type": "text", "text": _OPENING}]})
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"].extend(blocks)
        else:
            messages.append({"role": role, "content": blocks})
    return messages


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        text = "".join(part.text for part in message.content if isinstance(part, Text))
        return [{"type": "tool_result", "tool_use_id": _tool_id(message.tool_call_id or ""), "content": text}]
    # The API refuses text blocks of nothing but white space.
    parts = [part for part in message.content if not isinstance(part, Text) or part.text.strip()]
    if message.role == "user":
        return [_part(part) for part in parts]
    calls = [
        {"type": "tool_use", "id": _tool_id(call.id), "name": call.name, "input": dict(call.arguments)}
        for call in message.tool_calls
    ]
    return [_part(part) for part in parts if isinstance(part, Text)] + calls


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    inline = _DATA_URL.fullmatch(part.url or "")
    if inline:
        source = {"type": "base64", "media_type": inline["media_type"], "data": inline["data"]}
    elif part.url:
        source = {"type": "url", "url": part.url}
    else:
        source = {"type": "base64", "media_type": part.media_type or "image/png", "data": part.base64 or ""}
    return {"type": "image", "source": source}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": {"type": "object", **tool.parameters}}


def _tool_id(call_id: str) -> str:
    """Return the id in the characters that the API allows: a model of another vendor may have made it earlier."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id) or "_"
