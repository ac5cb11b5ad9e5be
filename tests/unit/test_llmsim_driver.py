"""What the simulator does by the name of its model, and the arguments it makes up for tools."""

from __future__ import annotations

import asyncio
from typing import Any

import jsonschema
import pytest
from codeyard_server.adapters.llmsim_driver import GREETING, LlmSimDriver
from codeyard_server.adapters.schema_example import example_arguments
from codeyard_server.models.ports import (
    ChatMessage,
    GenerationRequest,
    Image,
    ModelError,
    Reply,
    Text,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)

from tests.unit.driver_wire import run

pytestmark = pytest.mark.quick

TOOLS = (
    ToolSpec("read", "", {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}),
    ToolSpec("now", "", {"type": "object", "properties": {}}),
)


def _ask(model: str, *texts: str, tools: tuple[ToolSpec, ...] = ()) -> GenerationRequest:
    content = tuple(Text(text) for text in texts or ("Hello there",))
    return GenerationRequest(model, "", (ChatMessage("user", content),), tools)


@pytest.mark.parametrize("model", ["llmsim", "anything-else", ""])
async def test_generate_greets_word_by_word_when_the_name_is_no_mode(model: str) -> None:
    """The default always says the same and calls no tool."""
    deltas, reply = await run(LlmSimDriver(), _ask(model, tools=TOOLS))
    assert reply.text == GREETING
    assert reply.tool_calls == ()
    assert reply.finish_reason == "stop"
    assert "".join(deltas) == GREETING
    assert [delta.strip() for delta in deltas] == GREETING.split()


async def test_generate_counts_a_token_for_four_bytes() -> None:
    """System prompt and history count as input; even nothing counts as one token."""
    request = GenerationRequest(
        "llmsim-echo", "ä" * 6, (ChatMessage("user", (Text("abcdefgh"), Image(url="https://example.com/a.png"))),)
    )
    _, reply = await run(LlmSimDriver(), request)
    assert reply.usage == Usage(5, 3)
    _, empty = await run(LlmSimDriver(), GenerationRequest("llmsim-empty", "", ()))
    assert empty.usage == Usage(1, 1)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("Hi you",), "Echo: Hi you"),
        (("one ", "two"), "Echo: one two"),
        (("",), "Echo: "),
        ((" \n",), "Echo:  \n"),
        (("x" * 5,), "Echo: xxxxx"),
    ],
)
async def test_generate_echoes_the_last_text_of_the_user(texts: tuple[str, ...], said: str) -> None:
    """Every character comes back, white space too, and no delta is empty."""
    deltas, reply = await run(LlmSimDriver(), _ask("llmsim-echo", *texts))
    assert reply.text == said
    assert "".join(deltas) == said
    assert all(deltas)


async def test_generate_calls_each_tool_once_when_the_user_has_the_last_word() -> None:
    """All calls come in one reply, without text, each with an id of its own."""
    deltas, reply = await run(LlmSimDriver(), _ask("llmsim-tools", tools=TOOLS))
    assert deltas == []
    assert reply.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("read", {"path": "example"}), ("now", {})]
    assert len({call.id for call in reply.tool_calls}) == 2


async def test_generate_says_which_tools_answered_when_the_results_are_there() -> None:
    """Only results since the user's last word count, in their order."""
    history = (
        ChatMessage("user", (Text("a"),)),
        ChatMessage("assistant", (), (ToolCall("0", "old", {}),)),
        ChatMessage("tool", (Text("{}"),), tool_call_id="0"),
        ChatMessage("user", (Text("b"),)),
        ChatMessage("assistant", (), (ToolCall("1", "read", {}), ToolCall("2", "now", {}))),
        ChatMessage("tool", (Text("{}"),), tool_call_id="1"),
        ChatMessage("tool", (Text("{}"),), tool_call_id="2"),
    )
    _, reply = await run(LlmSimDriver(), GenerationRequest("llmsim-tools", "", history, TOOLS))
    assert reply.text == "2 tools answered: read, now."
    assert reply.tool_calls == ()


async def test_generate_says_that_no_tool_answered_when_none_is_offered() -> None:
    """Without tools the loop still ends."""
    _, reply = await run(LlmSimDriver(), _ask("llmsim-tools"))
    assert (reply.text, reply.tool_calls) == ("0 tools answered.", ())


async def test_generate_takes_its_time_when_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between the words add up to 300 ms."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    deltas, _ = await run(LlmSimDriver(), _ask("llmsim-slow"))
    assert len(pauses) == len(deltas)
    assert sum(pauses) == pytest.approx(0.3)


async def test_generate_says_nothing_when_empty() -> None:
    """A reply without text and tools is a reply."""
    assert await run(LlmSimDriver(), _ask("llmsim-empty", tools=TOOLS)) == ([], Reply("", usage=Usage(2, 1)))


async def test_generate_fails_for_good_when_asked_to() -> None:
    """The failure will repeat, and says that it was wanted."""
    with pytest.raises(ModelError, match="as its model's name asks") as caught:
        await run(LlmSimDriver(), _ask("llmsim-error"))
    assert not caught.value.retryable


async def test_generate_breaks_off_once_per_request_when_flaky() -> None:
    """A retry of the same request succeeds; another request fails again first."""
    driver = LlmSimDriver()
    received: list[TextDelta | Reply] = []

    async def attempt(text: str) -> None:
        received.clear()
        async for item in driver.generate(_ask("llmsim-flaky", text)):
            received.append(item)  # noqa: PERF401 - what came before the error counts

    for text in ("a", "b"):
        with pytest.raises(ModelError) as caught:
            await attempt(text)
        assert caught.value.retryable
        assert received == [TextDelta("Hello! ")]
        await attempt(text)
        assert isinstance(received[-1], Reply)


SCHEMAS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "string"}, "example"),
    ({"type": "string", "enum": ["b", "a"]}, "b"),
    ({"const": 7}, 7),
    ({"type": "integer", "default": 30}, 30),
    ({"type": "string", "examples": ["given"]}, "given"),
    ({"type": "string", "format": "email"}, "user@example.com"),
    ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00Z"),
    ({"type": "string", "minLength": 10}, "examplexxx"),
    ({"type": "string", "maxLength": 3}, "exa"),
    ({"type": "integer"}, 1),
    ({"type": "integer", "minimum": 5}, 5),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "integer", "exclusiveMinimum": 1}, 2),
    ({"type": "integer", "exclusiveMaximum": 1}, 0),
    ({"type": "integer", "multipleOf": 5}, 5),
    ({"type": "number", "minimum": 1.5}, 1.5),
    ({"type": "boolean"}, False),
    ({"type": "null"}, None),
    ({"type": ["null", "integer"]}, 1),
    ({"type": "array", "items": {"type": "integer"}}, [1]),
    ({"type": "array"}, []),
    ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["example", "example"]),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 0}, []),
    ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]}, {"a": "example"}),
    ({"type": "object", "required": ["undeclared"]}, {"undeclared": "example"}),
    ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, False),
    ({"oneOf": [{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}]}, {"n": 1}),
    ({"allOf": [{"type": "integer", "minimum": 4}, {"maximum": 9}]}, 4),
    ({"$ref": "#/$defs/level"}, "low"),
    ({"$ref": "#/$defs/no~1such"}, "example"),
]


@pytest.mark.parametrize(("schema", "value"), SCHEMAS)
def test_example_arguments_fit_the_schema(schema: dict[str, Any], value: Any) -> None:
    """The value is the expected one and a validator accepts it."""
    whole = {
        "type": "object",
        "properties": {"it": schema},
        "required": ["it"],
        "$defs": {"level": {"enum": ["low", "high"]}},
    }
    arguments = example_arguments(whole)
    assert arguments == {"it": value}
    if "no~1such" not in str(schema):
        jsonschema.validate(arguments, whole)


@pytest.mark.parametrize("name", ["url", "base_url", "URL", "link", "source-uri"])
def test_example_arguments_are_addresses_when_the_name_says_so(name: str) -> None:
    """Tools that fetch something get something to fetch."""
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    assert example_arguments(schema) == {name: "https://example.com/"}


def test_example_arguments_end_when_the_schema_contains_itself() -> None:
    """A tree has no smallest example, but one that ends."""
    node = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "required": ["left"]}
    assert "left" in example_arguments(node)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "properties": {str(i): {"$ref": "#"} for i in range(50)},
            "required": list(map(str, range(50))),
        },
        {"type": "object", "required": [str(i) for i in range(100_000)]},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "properties": ["not", "a", "mapping"], "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": "one"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 5e-324}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": 7}}, "required": ["a"]},
        {"type": "string"},
        {},
    ],
)
def test_example_arguments_are_empty_when_the_schema_is_hostile(schema: dict[str, Any]) -> None:
    """Anybody's tool server may send a schema; none keeps the simulator busy or breaks it."""
    assert example_arguments(schema) == {}


def test_example_arguments_stay_small_when_the_schema_asks_for_much() -> None:
    """Lengths and counts are not followed without end."""
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 10**12},
            "list": {"type": "array", "items": {"type": "null"}, "minItems": 10**12},
        },
        "required": ["text", "list"],
    }
    arguments = example_arguments(schema)
    assert len(arguments["text"]) == 10_000
    assert len(arguments["list"]) == 16
