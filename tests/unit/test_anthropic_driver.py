"""What the Anthropic driver sends and how it reads streams, also those that no vendor should send."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx2
import pytest
from codeyard_server.adapters.anthropic_driver import AnthropicDriver
from codeyard_server.models.ports import (
    ChatMessage,
    GenerationRequest,
    Image,
    ModelError,
    ProviderConfig,
    Reply,
    Text,
    ToolCall,
    ToolSpec,
    Usage,
)

from tests.unit.driver_wire import Wire, anthropic_events, run

pytestmark = pytest.mark.quick

KEY = "sk-ant-secret-0123456789"
HELLO = GenerationRequest("claude-test", "", (ChatMessage("user", (Text("Hello"),)),))

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 100,
            "output_tokens": 1,
        },
    },
}
STOP = {"type": "message_stop"}


def _block(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _end(stop_reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 9, **usage}}


def _text(piece: str) -> dict[str, Any]:
    return _delta(0, type="text_delta", text=piece)


def _driver(wire: Wire, base_url: str | None = None) -> AnthropicDriver:
    return AnthropicDriver(ProviderConfig("anthropic", base_url, KEY), transport=wire)


async def _sent(request: GenerationRequest) -> dict[str, Any]:
    """Return the body that a request is sent as."""
    wire = Wire(anthropic_events(START, _end(), STOP))
    await run(_driver(wire), request)
    return wire.body


async def _reply(*events: dict[str, Any]) -> Reply:
    _, reply = await run(_driver(Wire(anthropic_events(START, *events, STOP))), HELLO)
    return reply


def _user(*content: Text | Image) -> ChatMessage:
    return ChatMessage("user", content)


async def test_generate_sends_the_whole_request_in_the_vendors_form() -> None:
    """Neighbours of one role become one message; results and what the user adds to them share a user message."""
    request = GenerationRequest(
        model="claude-test",
        system="Be brief.",
        messages=(
            _user(Text("Look"), Image(url="https://example.com/a.png")),
            _user(Image(base64="aGk=", media_type="image/webp"), Image(url="data:image/gif;base64,R0k=")),
            ChatMessage("assistant", (Text("I call"),), (ToolCall("c1", "get", {"k": 1}), ToolCall("c.2", "get", {}))),
            ChatMessage("tool", (Text("one"),), tool_call_id="c1"),
            ChatMessage("tool", (Text("two"),), tool_call_id="c.2"),
            _user(Text("Go on")),
        ),
        tools=(ToolSpec("get", "Gets", {"properties": {}}),),
        temperature=0.0,
    )
    assert await _sent(request) == {
        "model": "claude-test",
        "max_tokens": 4096,
        "stream": True,
        "system": "Be brief.",
        "temperature": 0.0,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "aGk="}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0k="}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I call"},
                    {"type": "tool_use", "id": "c1", "name": "get", "input": {"k": 1}},
                    {"type": "tool_use", "id": "c_2", "name": "get", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "c_2", "content": "two"},
                    {"type": "text", "text": "Go on"},
                ],
            },
        ],
        "tools": [{"name": "get", "description": "Gets", "input_schema": {"type": "object", "properties": {}}}],
    }


async def test_generate_leaves_out_what_the_api_refuses() -> None:
    """Empty texts and messages vanish, and the neighbours they leave are merged."""
    history = (_user(Text("a"), Text(" \n")), ChatMessage("assistant", (Text(""),)), _user(Text("b")))
    body = await _sent(dataclasses.replace(HELLO, messages=history))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    assert set(body) == {"model", "max_tokens", "messages", "stream"}


async def test_generate_lets_the_user_begin_when_the_history_does_not() -> None:
    """The API wants a user message first; an agent may have greeted."""
    history = (ChatMessage("assistant", (Text("Welcome!"),)), _user(Text("Hi")))
    body = await _sent(dataclasses.replace(HELLO, messages=history))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget", "limit"),
    [
        ("low", None, 1024, 4096),
        ("medium", None, 4096, 8192),
        ("high", 20_000, 16_384, 20_000),
        ("high", 16_384, 16_384, 32_768),
        ("xhigh", 100, 32_768, 32_868),
    ],
)
async def test_generate_thinks_within_a_budget_when_an_effort_is_asked_for(
    effort: str, max_tokens: int | None, budget: int, limit: int
) -> None:
    """The limit exceeds the budget, so that there is room for the answer; a temperature is not sent."""
    body = await _sent(dataclasses.replace(HELLO, reasoning_effort=effort, max_tokens=max_tokens, temperature=0.3))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == limit
    assert "temperature" not in body


@pytest.mark.parametrize("effort", [None, "none", "minimal", "unheard-of"])
async def test_generate_does_not_think_when_the_effort_has_no_budget(effort: str | None) -> None:
    """Efforts without a budget leave the call as it is."""
    body = await _sent(dataclasses.replace(HELLO, reasoning_effort=effort, temperature=0.3))
    assert "thinking" not in body
    assert body["temperature"] == 0.3


@pytest.mark.parametrize("after", [(), (_user(Text("And?")),)])
async def test_generate_does_not_think_when_its_last_message_called_tools(after: tuple[ChatMessage, ...]) -> None:
    """The API wants the thoughts before those calls back, and the history does not hold them."""
    history = (
        *HELLO.messages,
        ChatMessage("assistant", (), (ToolCall("c1", "get", {}),)),
        ChatMessage("tool", (Text("one"),), tool_call_id="c1"),
        *after,
    )
    body = await _sent(dataclasses.replace(HELLO, messages=history, reasoning_effort="high"))
    assert "thinking" not in body


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-opus-4-20250514", False),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-opus-4-5", False),
        ("my-claude", False),
        ("claude-opus-4-6", True),
        ("claude-sonnet-5", True),
        ("vendor/claude-haiku-5-5-20261101", True),
    ],
)
async def test_generate_lets_the_model_judge_when_it_is_of_the_adaptive_generation(model: str, adaptive: bool) -> None:
    """Models since 4.6 refuse or deprecate a budget, and think between tool calls without the earlier thoughts."""
    history = (
        *HELLO.messages,
        ChatMessage("assistant", (), (ToolCall("c1", "get", {}),)),
        ChatMessage("tool", (Text("one"),), tool_call_id="c1"),
    )
    asked = dataclasses.replace(HELLO, model=model, reasoning_effort="medium")
    first, second = await _sent(asked), await _sent(dataclasses.replace(asked, messages=history))
    if adaptive:
        assert first["thinking"] == second["thinking"] == {"type": "adaptive"}
        assert first["output_config"] == second["output_config"] == {"effort": "medium"}
        assert first["max_tokens"] == 8192
    else:
        assert first["thinking"] == {"type": "enabled", "budget_tokens": 4096}
        assert "thinking" not in second


async def test_generate_thinks_again_in_the_next_turn() -> None:
    """Once the model has answered, the calls of that turn are past."""
    history = (
        *HELLO.messages,
        ChatMessage("assistant", (), (ToolCall("c1", "get", {}),)),
        ChatMessage("tool", (Text("one"),), tool_call_id="c1"),
        ChatMessage("assistant", (Text("Done."),)),
        _user(Text("And now?")),
    )
    body = await _sent(dataclasses.replace(HELLO, messages=history, reasoning_effort="high"))
    assert body["thinking"]["budget_tokens"] == 16_384


async def test_generate_counts_cached_tokens_as_input() -> None:
    """The vendor counts what it read from or wrote to its cache apart."""
    reply = await _reply(_block(0, type="text", text=""), _text("Hi"), _end())
    assert reply == Reply("Hi", usage=Usage(125, 9), finish_reason="stop", response_id="msg_1")


async def test_generate_takes_the_last_counts_when_the_end_repeats_them() -> None:
    """Counts are totals so far, not additions."""
    reply = await _reply(_end(input_tokens=7, cache_read_input_tokens=None))
    assert reply.usage == Usage(7, 9)


async def test_generate_leaves_thoughts_out_of_the_text() -> None:
    """Thinking is neither streamed nor part of the reply."""
    reply = await _reply(
        _block(0, type="thinking", thinking="", signature=""),
        _delta(0, type="thinking_delta", thinking="Hm."),
        _delta(0, type="signature_delta", signature="c2ln"),
        _block(1, type="text", text="A"),
        _delta(1, type="text_delta", text="nswer"),
        _end(),
    )
    assert reply.text == "Answer"


async def test_generate_reads_calls_between_texts() -> None:
    """Blocks come in any order; pieces of arguments belong to the block of their index."""
    reply = await _reply(
        _block(0, type="tool_use", id="a", name="first", input={}),
        _delta(0, type="input_json_delta", partial_json=""),
        _delta(0, type="input_json_delta", partial_json='{"x":'),
        _block(1, type="text", text="Wait"),
        _delta(0, type="input_json_delta", partial_json=" 1}"),
        _block(2, type="tool_use", id="b", name="second", input={"whole": True}),
        _end("tool_use"),
    )
    assert reply.text == "Wait"
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls == (ToolCall("a", "first", {"x": 1}), ToolCall("b", "second", {"whole": True}))


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "stop"),
    ],
)
async def test_generate_tells_how_the_model_finished(stop_reason: str, finish_reason: str) -> None:
    """Each of the vendor's reasons has its meaning in the port; a new one is a stop."""
    assert (await _reply(_text("Hi"), _end(stop_reason))).finish_reason == finish_reason


@pytest.mark.parametrize(
    ("base_url", "headers"),
    [
        (None, {"authorization": f"Bearer {KEY}"}),
        ("https://api.anthropic.com/v1", {"authorization": f"Bearer {KEY}"}),
        ("https://models.example/anthropic", {"authorization": f"Bearer {KEY}", "x-api-key": KEY}),
    ],
)
async def test_generate_sends_the_key_where_the_server_looks_for_it(
    base_url: str | None, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compatible servers read one of two headers; nothing comes from the environment of the SDK."""
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "leaked")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "leaked")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://leaked.example")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: leaked")
    wire = Wire(anthropic_events(START, _end(), STOP))
    await run(_driver(wire, base_url), HELLO)
    request = wire.requests[-1]
    names = ("authorization", "x-api-key")
    assert {name: request.headers[name] for name in names if name in request.headers} == headers
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "leaked" not in f"{request.url} {request.headers.raw}"


async def _failure(wire: Wire) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await run(_driver(wire), HELLO)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert len(wire.requests) == 1
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"event: message_start\ndata: {broken\n\n",
        b"event: message_start\ndata: \xff\xfe\n\n",
        b"event: message_start\ndata: [1]\n\n",
        b"event: message_start\ndata: {}\n\n",
        b"<html>Bad gateway</html>",
        anthropic_events(START, _text("Half")),
        anthropic_events(START, _text("Half"), _end(None), STOP),
        anthropic_events(START, _delta(0, type="text_delta", text=7), _end(), STOP),
        anthropic_events(START, _delta(0, type="input_json_delta", partial_json="{}"), _end("tool_use"), STOP),
    ],
)
async def test_generate_fails_as_retryable_when_the_stream_is_malformed(body: bytes) -> None:
    """Nothing that is no complete stream becomes a reply."""
    assert (await _failure(Wire(body))).retryable


@pytest.mark.parametrize(
    ("failure", "words"),
    [(httpx2.ReadTimeout("silence"), "in time"), (httpx2.RemoteProtocolError("closed early"), "closed early")],
)
async def test_generate_fails_as_retryable_when_the_stream_breaks(failure: Exception, words: str) -> None:
    """The SDK passes failures of a stream on as they are; the driver does not."""
    found = await _failure(Wire(anthropic_events(START, _text("Half")), failure=failure))
    assert found.retryable
    assert words in str(found)


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [("overloaded_error", True), ("api_error", True), ("rate_limit_error", True), ("invalid_request_error", False)],
)
async def test_generate_judges_an_error_inside_the_stream_by_its_kind(kind: str, retryable: bool) -> None:
    """After status 200 only the event tells whether a second try can help."""
    event = {"type": "error", "error": {"type": kind, "message": "Not now"}}
    failure = await _failure(Wire(anthropic_events(START, _text("Hi"), event)))
    assert failure.retryable is retryable
    assert "Not now" in str(failure)


async def test_generate_fails_for_good_when_the_vendor_refuses_to_answer() -> None:
    """The same prompt would be refused again."""
    assert not (await _failure(Wire(anthropic_events(START, _end("refusal"), STOP)))).retryable


@pytest.mark.parametrize(("status", "retryable"), [(529, True), (503, True), (403, False), (413, False)])
async def test_generate_judges_an_answer_by_its_status(status: int, retryable: bool) -> None:
    """Overload passes, what is forbidden or too large does not."""
    body = b'{"type": "error", "error": {"type": "some_error", "message": "Because"}}'
    failure = await _failure(Wire(body, status=status, headers={"content-type": "application/json"}))
    assert failure.retryable is retryable
    assert str(failure) == f"Anthropic answered {status}: Because"


async def test_generate_does_not_follow_redirects() -> None:
    """The key stays with the address that the administrator entered."""
    wire = Wire(b"", status=302, headers={"location": "http://169.254.169.254/latest"})
    assert not (await _failure(wire)).retryable
    assert len(wire.requests) == 1


async def test_closing_the_iterator_closes_the_stream() -> None:
    """An abandoned call does not keep its connection."""
    wire = Wire(anthropic_events(START, _text("a"), _text("b"), _end(), STOP))
    driver = _driver(wire)
    stream = driver.generate(HELLO)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # the port promises an iterator, a generator it is
    assert wire.closed_streams >= 1
    await driver.aclose()


def test_a_driver_is_refused_when_it_has_no_key() -> None:
    """The failure says what is missing, before anything is sent."""
    with pytest.raises(ModelError, match="no API key") as caught:
        AnthropicDriver(ProviderConfig("anthropic", None, None))
    assert not caught.value.retryable


def test_the_representation_of_a_driver_does_not_hold_the_key() -> None:
    """Logs may print drivers."""
    assert KEY not in repr(AnthropicDriver(ProviderConfig("anthropic", None, KEY)))
