"""The built-in simulator: a model without a network, a key or a bill. The name of the model chooses what it does.

==================  ==================================================================================================
``llmsim``          greets, always with the same words; so does every name not listed here
``llmsim-echo``     repeats the last text of the user
``llmsim-tools``    calls each tool it is offered once, all in one reply, with arguments made up from their schemas;
                    when their results are there, says which tools answered
``llmsim-slow``     greets over 300 ms
``llmsim-flaky``    breaks off after its first word, as a dropped stream does; asked the same again, greets
``llmsim-error``    fails, and would again
``llmsim-empty``    says nothing and calls nothing
==================  ==================================================================================================

Replies are streamed word by word. A token is counted for every four bytes of text, at least one.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator

from codeyard_server.adapters.schema_example import example_arguments
from codeyard_server.models.ports import (
    ChatMessage,
    GenerationRequest,
    ModelError,
    Reply,
    Text,
    TextDelta,
    ToolCall,
    Usage,
)

GREETING = "Hello! I am the simulated model of this yard. Tell me what to do, and I will play along."
SLOW_SECONDS = 0.3

_WORD = re.compile(r"\s*\S+\s*|\s+")
_GREETING_DELTAS = tuple(TextDelta(word) for word in _WORD.findall(GREETING))
_MAX_REMEMBERED = 1024


class LlmSimDriver:
    """Simulates one provider. Its only state are the requests that ``llmsim-flaky`` has failed once."""

    def __init__(self) -> None:
        self._failed_once: dict[int, None] = {}

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | Reply]:
        """Stream one reply; see ModelDriver.generate."""
        reply, deltas = _reply(request)
        breaks_off = request.model == "llmsim-flaky" and self._fails_now(request)
        pause = SLOW_SECONDS / len(deltas) if request.model == "llmsim-slow" else 0
        for delta in deltas:
            if pause:
                await asyncio.sleep(pause)
            yield delta
            if breaks_off:
                raise ModelError("The simulator broke off, as its model's name asks", retryable=True)
        yield reply

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""

    def _fails_now(self, request: GenerationRequest) -> bool:
        """Whether this request comes for the first time."""
        key = hash(repr(request))
        if key in self._failed_once:
            return False
        if len(self._failed_once) >= _MAX_REMEMBERED:
            del self._failed_once[next(iter(self._failed_once))]
        self._failed_once[key] = None
        return True


def _reply(request: GenerationRequest) -> tuple[Reply, tuple[TextDelta, ...]]:
    """Return the whole reply and the pieces it is streamed in.

    Raises:
        ModelError: the model is the one that always fails.
    """
    text = GREETING
    calls: tuple[ToolCall, ...] = ()
    match request.model:
        case "llmsim-error":
            raise ModelError("The simulator failed, as its model's name asks", retryable=False)
        case "llmsim-empty":
            text = ""
        case "llmsim-echo":
            text = f"Echo: {_last_user_text(request)}"
        case "llmsim-tools":
            text, calls = _use_tools(request)
    reply = Reply(
        text=text,
        tool_calls=calls,
        usage=Usage(_tokens(_size(request)), _tokens(len(text.encode()))),
        finish_reason="tool_calls" if calls else "stop",
    )
    return reply, _GREETING_DELTAS if text is GREETING else tuple(TextDelta(word) for word in _WORD.findall(text))


def _use_tools(request: GenerationRequest) -> tuple[str, tuple[ToolCall, ...]]:
    """Return the calls when the user has the last word, else a text about the results since then."""
    if request.messages and request.messages[-1].role == "user" and request.tools:
        return "", tuple(
            ToolCall(f"call_{uuid.uuid4().hex[:24]}", tool.name, example_arguments(tool.parameters))
            for tool in request.tools
        )
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    answered = []
    for message in reversed(request.messages):
        if message.role == "user":
            break
        if message.role == "tool":
            answered.append(names.get(message.tool_call_id or "", "unknown"))
    count = f"{len(answered)} tool{'' if len(answered) == 1 else 's'} answered"
    return (f"{count}: {', '.join(reversed(answered))}." if answered else f"{count}."), ()


def _last_user_text(request: GenerationRequest) -> str:
    for message in reversed(request.messages):
        if message.role == "user":
            return _text(message)
    return ""


def _text(message: ChatMessage) -> str:
    return "".join(part.text for part in message.content if isinstance(part, Text))


def _size(request: GenerationRequest) -> int:
    """Return the bytes of all text the model is given."""
    texts = (part.text for message in request.messages for part in message.content if isinstance(part, Text))
    return len(request.system.encode()) + sum(len(text.encode()) for text in texts)


def _tokens(size: int) -> int:
    return max(1, size // 4)
