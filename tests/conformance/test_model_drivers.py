"""The drivers of real vendors against a model server made by others, over each protocol it speaks."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

import pytest
from codeyard_server.adapters.model_drivers import make_driver
from codeyard_server.models.ports import (
    ChatMessage,
    GenerationRequest,
    Image,
    ModelDriver,
    ModelError,
    ProviderConfig,
    Reply,
    Text,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)

if TYPE_CHECKING:
    from tests.aimock import AimockServer


KEY = "sk-test-1234567890"
WEATHER = ToolSpec("get_weather", "Tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}})
CLOCK = ToolSpec("get_time", "Tells the time", {"type": "object", "properties": {}})


def _configs(server: AimockServer) -> dict[str, ProviderConfig]:
    """Return a configuration for each protocol and each form of base URL."""
    key = server.api_key or KEY
    return {
        "openai": ProviderConfig("openai", server.openai_url, key),
        "ollama": ProviderConfig("ollama", server.url, server.api_key),
        "custom": ProviderConfig("custom", f"{server.openai_url}/chat/completions", server.api_key),
        "azure": ProviderConfig("azure_openai", server.url, key),
        "azure-v1": ProviderConfig("azure_openai", f"{server.url}/openai/v1", key),
        "anthropic": ProviderConfig("anthropic", server.url, key),
        "anthropic-full": ProviderConfig("anthropic", f"{server.url}/v1/messages", key),
    }


NAMES = ("openai", "ollama", "custom", "azure", "azure-v1", "anthropic", "anthropic-full")


@pytest.fixture(params=NAMES)
def config(request: pytest.FixtureRequest, aimock: AimockServer) -> ProviderConfig:
    """The configuration of a provider that the model server serves."""
    aimock.forget_requests()
    return _configs(aimock)[request.param]


@pytest.fixture
async def driver(config: ProviderConfig) -> AsyncIterator[ModelDriver]:
    """A driver for the provider."""
    made = make_driver(config)
    yield made
    await made.aclose()


def _ask(text: str, *, tools: tuple[ToolSpec, ...] = ()) -> GenerationRequest:
    return GenerationRequest("test-model", "Answer briefly.", (ChatMessage("user", (Text(text),)),), tools)


async def _generate(driver: ModelDriver, request: GenerationRequest) -> tuple[list[str], Reply]:
    """Return the deltas and the reply, which must come last."""
    items = [item async for item in driver.generate(request)]
    reply = items[-1]
    assert isinstance(reply, Reply)
    deltas = [item.text for item in items[:-1] if isinstance(item, TextDelta)]
    assert len(deltas) == len(items) - 1
    return deltas, reply


async def _failure(driver: ModelDriver, request: GenerationRequest) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await _generate(driver, request)
    assert KEY not in str(caught.value)
    return caught.value


async def test_generate_streams_the_text_in_pieces(driver: ModelDriver) -> None:
    """The deltas come one by one and the reply holds them together, with what the vendor says about it."""
    deltas, reply = await _generate(driver, _ask("[text]"))
    assert len(deltas) > 3
    assert all(deltas)
    assert reply == Reply(
        text="The yard is open, and the gate is green.",
        usage=Usage(11, 7),
        finish_reason="stop",
        response_id="reply-1",
    )
    assert "".join(deltas) == reply.text


async def test_generate_returns_the_tool_calls_when_the_model_asks_for_tools(driver: ModelDriver) -> None:
    """Two calls of one reply come with their ids and their complete arguments, beside the text."""
    _, reply = await _generate(driver, _ask("[tools]", tools=(WEATHER, CLOCK)))
    assert reply.text == "Let me look."
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls == (
        ToolCall("call_weather", "get_weather", {"city": "Ålesund", "days": [1, 2]}),
        ToolCall("call_time", "get_time", {}),
    )


async def test_generate_continues_when_the_tool_results_are_in_the_history(
    driver: ModelDriver, aimock: AimockServer
) -> None:
    """The calls and their results reach the model as one exchange, in their order and under their ids."""
    request = _ask("[tools]", tools=(WEATHER, CLOCK))
    _, called = await _generate(driver, request)
    results = {"call_weather": '{"rain":true}', "call_time": '{"time":"12:30"}'}
    history = (
        *request.messages,
        ChatMessage("assistant", (Text(called.text),), called.tool_calls),
        *(ChatMessage("tool", (Text(result),), tool_call_id=call_id) for call_id, result in results.items()),
    )
    _, reply = await _generate(driver, dataclasses.replace(request, messages=history))
    assert reply.text == "It rains, and it is half past twelve."
    assert reply.finish_reason == "stop"
    messages = aimock.requests()[-1]["body"]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[2]["tool_calls"]] == list(results)
    assert {message["tool_call_id"]: message["content"] for message in messages[3:]} == results


async def test_generate_sends_the_system_prompt_the_tools_and_the_limits(
    driver: ModelDriver, aimock: AimockServer
) -> None:
    """What the request holds besides the history arrives as it is."""
    request = dataclasses.replace(_ask("[text]", tools=(WEATHER,)), max_tokens=77, temperature=0.5)
    await _generate(driver, request)
    body = aimock.requests()[-1]["body"]
    assert body["model"] == "test-model"
    assert body["messages"][0] == {"role": "system", "content": "Answer briefly."}
    assert body["tools"][0]["function"]["name"] == "get_weather"
    assert body["tools"][0]["function"]["parameters"] == WEATHER.parameters
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 77
    assert body["temperature"] == 0.5


async def test_generate_succeeds_when_the_user_sends_images(driver: ModelDriver) -> None:
    """The vendor's protocol accepts a picture by address and one in base64."""
    pictures = (Image(url="https://example.com/gate.png"), Image(base64="aGk=", media_type="image/jpeg"))
    request = dataclasses.replace(_ask(""), messages=(ChatMessage("user", (Text("[text] what is this?"), *pictures)),))
    _, reply = await _generate(driver, request)
    assert reply.text == "The yard is open, and the gate is green."


async def test_generate_succeeds_when_an_effort_is_asked_for(driver: ModelDriver) -> None:
    """A reasoning effort does not disturb the call."""
    _, reply = await _generate(driver, dataclasses.replace(_ask("[text]"), reasoning_effort="low", temperature=0.5))
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("fault", ["[dropped]", "[refused]", "[malformed]", "[broken]"])
async def test_generate_fails_as_retryable_when_the_vendor_breaks_off(driver: ModelDriver, fault: str) -> None:
    """A stream that stops, an answer that is none, and a server's own failure may pass."""
    failure = await _failure(driver, _ask(fault))
    assert failure.retryable


async def test_generate_streams_what_came_when_the_connection_drops(driver: ModelDriver) -> None:
    """The pieces before the break are delivered, but no reply."""
    received: list[TextDelta | Reply] = []

    async def receive() -> None:
        async for item in driver.generate(_ask("[dropped]")):
            received.append(item)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ModelError):
        await receive()
    assert all(isinstance(item, TextDelta) for item in received)
    assert "".join(item.text for item in received).startswith("This ")


async def test_generate_fails_as_retryable_when_the_vendor_is_silent_for_too_long(config: ProviderConfig) -> None:
    """The provider's timeout is the longest silence."""
    driver = make_driver(dataclasses.replace(config, timeout_seconds=0.2))
    failure = await _failure(driver, _ask("[slow]"))
    assert failure.retryable
    assert "in time" in str(failure)
    await driver.aclose()


async def test_generate_fails_as_retryable_when_nobody_listens(config: ProviderConfig) -> None:
    """A server that is down may come back."""
    driver = make_driver(dataclasses.replace(config, base_url="http://127.0.0.1:1", api_key=KEY))
    assert (await _failure(driver, _ask("[text]"))).retryable
    await driver.aclose()


async def test_generate_passes_on_the_vendors_wish_when_it_limits_the_rate(driver: ModelDriver) -> None:
    """429 is retryable after the time that Retry-After names."""
    failure = await _failure(driver, _ask("[limited]"))
    assert failure.retryable
    assert failure.retry_after == 7.0
    assert "Too many requests" in str(failure)


async def test_generate_fails_for_good_when_the_request_is_invalid(driver: ModelDriver, aimock: AimockServer) -> None:
    """400 will repeat; the driver tries once only."""
    failure = await _failure(driver, _ask("[invalid]"))
    assert not failure.retryable
    assert failure.retry_after is None
    assert "The image is too large" in str(failure)
    assert len(aimock.requests()) == 1


@pytest.mark.parametrize("name", NAMES)
async def test_generate_authenticates_with_the_providers_key(locked_aimock: AimockServer, name: str) -> None:
    """Each protocol carries the key where its servers look for it."""
    driver = make_driver(_configs(locked_aimock)[name])
    _, reply = await _generate(driver, _ask("[text]"))
    assert reply.text
    await driver.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_generate_fails_for_good_when_the_key_is_wrong(locked_aimock: AimockServer, name: str) -> None:
    """401 is not retryable."""
    driver = make_driver(dataclasses.replace(_configs(locked_aimock)[name], api_key="sk-wrong"))
    failure = await _failure(driver, _ask("[text]"))
    assert not failure.retryable
    assert "401" in str(failure)
    assert "sk-wrong" not in str(failure)
    await driver.aclose()


@pytest.mark.parametrize(
    ("name", "path", "header"),
    [
        ("openai", "/v1/chat/completions", "authorization"),
        ("ollama", "/v1/chat/completions", None),
        ("custom", "/v1/chat/completions", None),
        ("azure", "/openai/deployments/test-model/chat/completions?api-version=2024-10-21", "api-key"),
        ("azure-v1", "/openai/v1/chat/completions", "api-key"),
        ("anthropic", "/v1/messages", "x-api-key"),
        ("anthropic-full", "/v1/messages", "x-api-key"),
    ],
)
async def test_generate_calls_the_protocols_address(
    aimock: AimockServer, name: str, path: str, header: str | None
) -> None:
    """Path, query and the header of the key are the protocol's, and a provider without a key sends none."""
    aimock.forget_requests()
    driver = make_driver(_configs(aimock)[name])
    await _generate(driver, _ask("[text]"))
    request = aimock.requests()[-1]
    assert request["path"] == path
    sent = {"authorization", "api-key", "x-api-key"} & set(request["headers"])
    assert header in sent if header else not sent
    await driver.aclose()


async def test_closing_the_iterator_ends_the_call(driver: ModelDriver) -> None:
    """A turn that is cancelled need not wait for the vendor, and the driver still serves."""
    stream = driver.generate(_ask("[dropped]"))
    await anext(stream)
    assert isinstance(stream, AsyncGenerator)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    _, reply = await _generate(driver, _ask("[text]"))
    assert reply.text
