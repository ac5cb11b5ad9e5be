"""What the OpenAI driver sends and how it reads streams, also those that no vendor should send."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from codeyard_server.adapters.openai_driver import OpenAIDriver
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

from tests.unit.driver_wire import Wire, openai_events, run

pytestmark = pytest.mark.quick

KEY = "sk-secret-0123456789"
HELLO = GenerationRequest("gpt-test", "", (ChatMessage("user", (Text("Hello"),)),))


def _chunk(finish_reason: str | None = None, usage: object = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], "usage": usage}


def _call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    piece = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return _chunk(tool_calls=[{name: value for name, value in piece.items() if value is not None}])


STOP = _chunk("stop")


def _driver(
    wire: Wire, provider_type: Any = "openai", base_url: str | None = None, key: str | None = KEY
) -> OpenAIDriver:
    return OpenAIDriver(ProviderConfig(provider_type, base_url, key), transport=wire)


async def _reply(*chunks: dict[str, Any]) -> Reply:
    _, reply = await run(_driver(Wire(openai_events(*chunks))), HELLO)
    return reply


async def test_generate_sends_the_whole_request_in_the_vendors_form() -> None:
    """Roles, pictures, tool calls and their results, tools and limits each have their place."""
    wire = Wire(openai_events(STOP))
    request = GenerationRequest(
        model="gpt-test",
        system="Be brief.",
        messages=(
            ChatMessage("user", (Text("Look"), Image(url="https://example.com/a.png"), Image(base64="aGk="))),
            ChatMessage("assistant", (Text("I call"),), (ToolCall("c1", "get", {"city": "Ålesund"}),)),
            ChatMessage("tool", (Text('{"ok":true}'),), tool_call_id="c1"),
            ChatMessage("user", (Text("Go on"),)),
        ),
        tools=(ToolSpec("get", "Gets", {"type": "object"}),),
        reasoning_effort="high",
        max_tokens=50,
        temperature=0.0,
    )
    await run(_driver(wire), request)
    assert wire.body == {
        "model": "gpt-test",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": "I call",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"city": "Ålesund"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": '{"ok":true}'},
            {"role": "user", "content": "Go on"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "get", "description": "Gets", "parameters": {"type": "object"}}}
        ],
        "reasoning_effort": "high",
        "max_completion_tokens": 50,
        "temperature": 0.0,
    }


async def test_generate_sends_nothing_that_was_not_asked_for() -> None:
    """Parameters that the request leaves open are left to the vendor."""
    wire = Wire(openai_events(STOP))
    await run(_driver(wire), HELLO)
    assert set(wire.body) == {"model", "messages", "stream", "stream_options"}
    assert [message["role"] for message in wire.body["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("provider_type", "name"),
    [
        ("openai", "max_completion_tokens"),
        ("azure_openai", "max_completion_tokens"),
        ("ollama", "max_tokens"),
        ("custom", "max_tokens"),
    ],
)
async def test_generate_names_the_token_limit_as_the_server_knows_it(provider_type: str, name: str) -> None:
    """Only the vendor's own models take max_completion_tokens for granted."""
    wire = Wire(openai_events(STOP))
    request = GenerationRequest("m", "", HELLO.messages, max_tokens=9)
    await run(_driver(wire, provider_type, "http://models.example"), request)
    assert {key: wire.body.get(key) for key in ("max_completion_tokens", "max_tokens")} == {
        "max_completion_tokens": None,
        "max_tokens": None,
        name: 9,
    }


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        (
            "https://name.openai.azure.com",
            "https://name.openai.azure.com/openai/deployments/gpt-test/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://name.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview",
            "https://name.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview",
        ),
        ("https://name.openai.azure.com/openai/v1/", "https://name.openai.azure.com/openai/v1/chat/completions"),
        (
            "https://name.openai.azure.com/openai/v1?api-version=preview",
            "https://name.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        ),
    ],
)
async def test_generate_speaks_azures_dialect_when_the_provider_is_azure(base_url: str, address: str) -> None:
    """The deployment is in the path, the version in the query, and the key in Azure's own header only."""
    wire = Wire(openai_events(STOP))
    await run(_driver(wire, "azure_openai", base_url), HELLO)
    request = wire.requests[-1]
    assert str(request.url) == address
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


async def test_generate_sends_no_credential_when_the_provider_has_no_key() -> None:
    """A local server without a key is not sent a made-up one."""
    wire = Wire(openai_events(STOP))
    await run(_driver(wire, "ollama", key=None), HELLO)
    assert str(wire.requests[-1].url) == "http://127.0.0.1:11434/v1/chat/completions"
    assert "authorization" not in wire.requests[-1].headers


async def test_generate_ignores_the_environment_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a variable holds for OpenAI's own account reaches a provider."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "API_VERSION"):
        monkeypatch.setenv(f"OPENAI_{name}", "leaked")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://leaked.example/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: leaked\nAuthorization: leaked")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "leaked")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "leaked")
    for provider_type, key in (("custom", None), ("openai", KEY), ("azure_openai", KEY)):
        wire = Wire(openai_events(STOP))
        await run(_driver(wire, provider_type, "http://models.example", key), HELLO)
        sent = f"{wire.requests[-1].url} {wire.requests[-1].headers.raw}"
        assert "leaked" not in sent


async def test_generate_assembles_calls_whose_pieces_are_interleaved() -> None:
    """Pieces belong to the call of their index, in whatever order they come."""
    reply = await _reply(
        _call(0, "a", "first", '{"x"'),
        _call(1, "b", "second", ""),
        _call(0, None, None, ": 1}"),
        _call(1, None, None, '{"y": 2}'),
        _chunk("tool_calls"),
    )
    assert reply.tool_calls == (ToolCall("a", "first", {"x": 1}), ToolCall("b", "second", {"y": 2}))


@pytest.mark.parametrize("indices", [(0, 0), (None, None)])
async def test_generate_tells_calls_apart_by_id_when_the_index_does_not(indices: tuple[int | None, int | None]) -> None:
    """Some servers give every call the same index, or none."""
    reply = await _reply(
        _call(indices[0], "a", "first", "{}"), _call(indices[1], "b", "second", '{"y": 2}'), _chunk("tool_calls")
    )
    assert reply.tool_calls == (ToolCall("a", "first", {}), ToolCall("b", "second", {"y": 2}))


@pytest.mark.parametrize(
    "arguments", ["", " ", "[1]", '"text"', "null", "{broken", '{"a": NaN}', '{"a": 1e999}', '{"a": ' + "[" * 100_000]
)
async def test_generate_gives_empty_arguments_when_the_models_are_no_json_object(arguments: str) -> None:
    """Whatever the model wrote, the call has an object that can be stored."""
    reply = await _reply(_call(0, "a", "first", arguments), _chunk("tool_calls"))
    assert reply.tool_calls == (ToolCall("a", "first", {}),)


async def test_generate_replaces_what_no_database_stores() -> None:
    """NUL and halves of surrogate pairs become U+FFFD; whole pairs stay the character they are."""
    reply = await _reply(
        _chunk(content="a\0b \ud83d c 😀"),
        _call(0, "a", "t", '{"k\\u0000": ["\\ud83d", "\\ud83d\\ude00", 1, null]}'),
        STOP,
    )
    assert reply.text == "a\ufffdb \ufffd c 😀"
    assert reply.tool_calls[0].arguments == {"k\ufffd": ["\ufffd", "😀", 1, None]}


async def test_generate_makes_up_an_id_when_the_server_sends_none() -> None:
    """A result must be able to name the call it answers."""
    reply = await _reply(_call(0, None, "first", "{}"), _call(1, None, "first", "{}"), STOP)
    assert reply.finish_reason == "tool_calls"
    first, second = (call.id for call in reply.tool_calls)
    assert first.startswith("call_")
    assert first != second


async def test_generate_drops_a_call_that_the_token_limit_cut() -> None:
    """A tool does not run with half its arguments; complete calls of the same reply stay."""
    reply = await _reply(_call(0, "a", "first", "{}"), _call(1, "b", "second", '{"path": "/et'), _chunk("length"))
    assert reply.finish_reason == "length"
    assert reply.tool_calls == (ToolCall("a", "first", {}),)


async def test_generate_succeeds_without_usage_when_the_server_sends_none() -> None:
    """A server may ignore stream_options."""
    reply = await _reply(_chunk(role="assistant", content=""), _chunk(content="Hi"), STOP)
    assert (reply.text, reply.usage, reply.response_id) == ("Hi", None, "chatcmpl-1")


async def test_generate_reads_chunks_that_lack_what_openai_always_sends() -> None:
    """No choices, null for choices, a null delta, and usage beside the last choice are all met in the wild."""
    reply = await _reply(
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
        _chunk(content="Hi"),
        _chunk("stop", {"prompt_tokens": 3, "completion_tokens": None}),
    )
    assert (reply.text, reply.usage) == ("Hi", Usage(3, 0))


async def test_generate_streams_a_refusal_as_text() -> None:
    """What the model says in place of an answer is its answer."""
    assert (await _reply(_chunk(refusal="I will not."), STOP)).text == "I will not."


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
        b"data: {broken\n\n",
        b"data: \xff\xfe\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": 7}}]}\n\n',
        b"data: [DONE]\n\n",
        b"<html>Bad gateway</html>",
        openai_events(_chunk(content="Half")),
        openai_events(_call(0, "a", None, "{}"), STOP),
    ],
)
async def test_generate_fails_as_retryable_when_the_stream_is_malformed(body: bytes) -> None:
    """Nothing that is no complete stream becomes a reply."""
    assert (await _failure(Wire(body))).retryable


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        ({"message": "Server error", "type": "server_error"}, True),
        ({"message": "Slow down", "code": 429}, True),
        ({"message": "Too long", "type": "invalid_request_error", "code": "context_length_exceeded"}, False),
        ({"message": "No such model", "code": 404}, False),
    ],
)
async def test_generate_judges_an_error_inside_the_stream_by_its_kind(error: dict[str, Any], retryable: bool) -> None:
    """After status 200 only the body tells whether a second try can help."""
    failure = await _failure(Wire(openai_events(_chunk(content="Hi"), {"error": error})))
    assert failure.retryable is retryable
    assert str(error["message"]) in str(failure)


async def test_generate_fails_for_good_when_the_content_filter_withholds_the_reply() -> None:
    """The same prompt would be filtered again."""
    assert not (await _failure(Wire(openai_events(_chunk("content_filter"))))).retryable


async def test_generate_fails_for_good_when_the_reply_never_ends() -> None:
    """A server that sends without end does not fill the memory."""
    piece = openai_events(_chunk(content="x" * 1_000_000), done=False)
    failure = await _failure(Wire(*[piece] * 9))
    assert not failure.retryable


async def test_generate_does_not_follow_redirects() -> None:
    """The key stays with the address that the administrator entered."""
    wire = Wire(b"", status=307, headers={"location": "http://169.254.169.254/latest"})
    failure = await _failure(wire)
    assert not failure.retryable
    assert len(wire.requests) == 1


async def test_generate_blots_out_the_key_when_the_server_repeats_it() -> None:
    """Servers quote wrong keys; ours never reaches a log."""
    wire = Wire(
        f'{{"error": {{"message": "Bad key {KEY}!"}}}}'.encode(),
        status=401,
        headers={"content-type": "application/json"},
    )
    assert str(await _failure(wire)) == "OpenAI answered 401: Bad key [key]!"


async def test_closing_the_iterator_closes_the_stream() -> None:
    """An abandoned call does not keep its connection."""
    wire = Wire(openai_events(_chunk(content="a"), _chunk(content="b")))
    driver = _driver(wire)
    stream = driver.generate(HELLO)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert wire.closed_streams == 1
    await driver.aclose()


@pytest.mark.parametrize("provider_type", ["openai", "azure_openai"])
@pytest.mark.parametrize("key", [None, "", " \n"])
def test_a_driver_is_refused_when_its_type_needs_a_key(provider_type: Any, key: str | None) -> None:
    """The failure says what is missing, before anything is sent."""
    with pytest.raises(ModelError, match="no API key") as caught:
        OpenAIDriver(ProviderConfig(provider_type, "https://models.example", key))
    assert not caught.value.retryable


@pytest.mark.parametrize("key", ["sk-two\nlines", "sk-ümlaut"])
def test_a_driver_is_refused_when_its_key_is_no_header_value(key: str) -> None:
    """The text does not quote the key."""
    with pytest.raises(ModelError) as caught:
        OpenAIDriver(ProviderConfig("openai", None, key))
    assert key not in str(caught.value)


def test_the_representation_of_a_driver_does_not_hold_the_key() -> None:
    """Logs may print drivers and configurations."""
    config = ProviderConfig("openai", None, KEY)
    assert KEY not in repr(OpenAIDriver(config)) + repr(config)


async def test_generate_fails_as_retryable_when_the_connection_fails() -> None:
    """The text names the failure below."""
    failure = await _failure(Wire(refusal=httpx2.ConnectError("nobody listens")))
    assert failure.retryable
    assert "nobody listens" in str(failure)
