"""Drives servers that speak OpenAI's chat completions: OpenAI itself, Azure OpenAI, Ollama, and compatible ones.

Implements :class:`codeyard_server.models.ports.ModelDriver` over the vendor's SDK. Between the types differ only the
endpoint, the header that carries the key, and the name of the token limit: OpenAI's reasoning models refuse
``max_tokens``, most compatible servers know nothing else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice

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

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_VENDORS = {"openai": "OpenAI", "azure_openai": "Azure OpenAI", "ollama": "Ollama", "custom": "The model server"}

_Stream = openai.AsyncStream[ChatCompletionChunk]


class OpenAIDriver:
    """Calls one provider of the type openai, azure_openai, ollama or custom.

    Args:
        config: of the provider.
        transport: dials in place of the HTTP client's own; closed with the driver.

    Raises:
        ModelError: the base URL or the key cannot be used.
    """

    def __init__(self, config: ProviderConfig, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        hosted = config.provider_type in ("openai", "azure_openai")
        self._vendor = _VENDORS[config.provider_type]
        self._key = model_http.usable_key(config, required=hosted)
        self._limit_name = "max_completion_tokens" if hosted else "max_tokens"
        self._headers: dict[str, Any] = {} if self._key else {"Authorization": openai.omit}
        if config.provider_type == "azure_openai":
            endpoint = model_http.azure_endpoint(config.base_url)
            self._headers = {"api-key": self._key, "Authorization": openai.omit}
        else:
            endpoint = model_http.openai_endpoint(config.provider_type, config.base_url)
        self._client = _client(endpoint, self._key, model_http.http_client(config, transport))
        # Loads the modules of this API now: the first call would stop the event loop for their import.
        self._create = cast(Callable[..., Awaitable[_Stream]], self._client.chat.completions.create)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | Reply]:
        """Stream one reply; see ModelDriver.generate."""
        reply = ReplyBuilder()
        async with await self._open(request) as stream:
            try:
                async for chunk in stream:
                    if piece := _take(chunk, reply):
                        yield TextDelta(piece)
                complete = reply.build()
            except Exception as error:  # noqa: BLE001 - the SDK raises whatever the vendor's bytes make it raise
                raise self._failure(error) from None
        yield complete

    async def aclose(self) -> None:
        """Close the HTTP client; calls that run are aborted."""
        await self._client.close()

    async def _open(self, request: GenerationRequest) -> _Stream:
        parameters = self._parameters(request)
        try:
            return await self._create(**parameters)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> ModelError:
        """Return what to raise in place of an error, without it as context: its request holds the key."""
        return model_error(error, vendor=self._vendor, secret=self._key)

    def _parameters(self, request: GenerationRequest) -> dict[str, Any]:
        optional: dict[str, Any] = {
            "tools": [_tool(tool) for tool in request.tools] or None,
            "reasoning_effort": request.reasoning_effort,
            self._limit_name: request.max_tokens,
            "temperature": request.temperature,
        }
        system = [{"role": "system", "content": request.system}] if request.system else []
        return {
            "model": request.model,
            "messages": system + [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_headers": self._headers,
            **{name: value for name, value in optional.items() if value is not None},
        }


def _client(endpoint: model_http.Endpoint, key: str, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    # admin_api_key "" is none at all; None would be looked up in the environment.
    options: dict[str, Any] = {
        "api_key": key,
        "admin_api_key": "",
        "base_url": endpoint.url,
        "default_query": endpoint.query,
        "timeout": http.timeout,
        "max_retries": 0,
        "http_client": http,
    }
    client: openai.AsyncOpenAI
    if endpoint.deployments:
        client = openai.AsyncAzureOpenAI(api_version=endpoint.query["api-version"], **options)
    else:
        client = openai.AsyncOpenAI(**options)
    # Take back what the SDK read from the environment: an account's headers have no business at another provider.
    client.organization = None
    client.project = None
    client._custom_headers = {}
    return client


def _take(chunk: ChatCompletionChunk, reply: ReplyBuilder) -> str:
    """Put a chunk into the reply and return its piece of text, mostly empty.

    The SDK does not validate what it reads, so any member can be missing; some servers omit what OpenAI always sends.
    """
    reply.response_id = reply.response_id or chunk.id or None
    if chunk.usage:
        reply.usage = Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
    # The chunk with the usage, and Azure's with the verdict on the prompt, have no choice.
    return _take_choice(chunk.choices[0], reply) if chunk.choices else ""


def _take_choice(choice: Choice, reply: ReplyBuilder) -> str:
    if choice.finish_reason == "content_filter":
        raise ModelError("The vendor's content filter withheld the reply", retryable=False)
    if choice.finish_reason:
        reply.finish_reason = _FINISH_REASONS.get(choice.finish_reason, "stop")
    delta = choice.delta
    if not delta:
        return ""
    for call in delta.tool_calls or ():
        function = call.function
        reply.add_call_piece(
            call.index, call.id, function.name if function else None, function.arguments if function else None
        )
    text = delta.content or delta.refusal
    return reply.add_text(text) if text else ""


def _message(message: ChatMessage) -> dict[str, Any]:
    match message.role:
        case "user":
            return {"role": "user", "content": _user_content(message)}
        case "tool":
            return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": _text(message)}
        case "assistant":
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
                }
                for call in message.tool_calls
            ]
            return {"role": "assistant", "content": _text(message)} | ({"tool_calls": calls} if calls else {})


def _user_content(message: ChatMessage) -> str | list[dict[str, Any]]:
    """Return a lone text as a string, which every compatible server takes, and all else as parts."""
    match message.content:
        case (Text(text),):
            return text
    return [_part(part) for part in message.content]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.base64 or ''}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(message: ChatMessage) -> str:
    return "".join(part.text for part in message.content if isinstance(part, Text))


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
