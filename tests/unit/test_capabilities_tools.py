"""The built-in tools that need nothing outside, and how a call is run."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Mapping
from typing import Any, cast

import pytest
import structlog.testing
from codeyard_server.capabilities import ToolContext, ToolError, ToolOutcome, execute
from codeyard_server.capabilities.builtin import current_time, test_packs, todo_list
from codeyard_server.capabilities.definition import Capability, FunctionTool, RemoteTool, arguments_schema
from codeyard_server.capabilities.execution import INTERNAL_TEXT
from codeyard_server.core.scope import Scope

NOW = datetime.datetime(2026, 1, 15, 23, 30, 5, 987654, tzinfo=datetime.UTC)
# None of these tools has to do with files.
CONTEXT = ToolContext(Scope.system("test"), uuid.UUID(int=7), cast(Any, None), NOW)


async def call(capability: Capability, name: str, **arguments: Any) -> Any:
    """Run a tool of a capability as a turn would; return its result."""
    tool = next(tool for tool in capability.tools if tool.name == name)
    outcome = await execute(tool, arguments, CONTEXT)
    assert outcome.status == "success"
    return outcome.result


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({}, {"datetime": "2026-01-15T23:30:05+00:00", "format": "iso8601", "timezone": "UTC"}),
        (
            {"timezone": "Asia/Tokyo", "format": "iso8601"},
            {"datetime": "2026-01-16T08:30:05+09:00", "format": "iso8601", "timezone": "Asia/Tokyo"},
        ),
        (
            {"timezone": "America/New_York", "format": "human"},
            {"datetime": "Thursday, 15 January 2026, 18:30:05 EST", "format": "human", "timezone": "America/New_York"},
        ),
        (
            {"timezone": "Asia/Tokyo", "format": "unix"},
            {"timestamp": 1768519805, "format": "unix", "timezone": "Asia/Tokyo"},
        ),
    ],
)
async def test_current_time_honours_zone_and_format(arguments: dict[str, Any], result: dict[str, Any]) -> None:
    """The time is that of the zone; seconds since 1970 are the same everywhere."""
    assert await call(current_time.CURRENT_TIME, "get_current_time", **arguments) == result


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "America", "", "europe/vienna"])
async def test_current_time_says_no_when_the_zone_is_unknown(zone: str) -> None:
    """A name that is no zone, or a path, is an error the model can read."""
    result = await call(current_time.CURRENT_TIME, "get_current_time", timezone=zone)
    assert result["error"].startswith("Unknown time zone")


@pytest.mark.parametrize(
    ("name", "a", "b", "result"),
    [
        ("add", 2, 3, 5),
        ("add", 0.5, 0.25, 0.75),
        ("subtract", 2, 3, -1),
        ("multiply", 4, 2.5, 10.0),
        ("divide", 7, 2, 3.5),
        ("divide", 6, 3, 2),
        ("multiply", 10**200, 10**100, 10**300),
    ],
)
async def test_math_calculates(name: str, a: float, b: float, result: float) -> None:
    """The result comes with the operation and its numbers."""
    assert await call(test_packs.TEST_MATH, name, a=a, b=b) == {"result": result, "operation": name, "a": a, "b": b}


@pytest.mark.parametrize(
    ("name", "a", "b", "error"),
    [
        ("divide", 1, 0, "Division by zero"),
        ("divide", 1, 0.0, "Division by zero"),
        ("multiply", 1e200, 1e200, "The result is too large"),
        ("multiply", 10**200, 10**200, "The result is too large"),
        ("divide", 10**300, 1e-300, "The result is too large"),
    ],
)
async def test_math_says_no_when_there_is_no_number_to_return(name: str, a: float, b: float, error: str) -> None:
    """Division by zero and overflow are errors the model can read."""
    assert await call(test_packs.TEST_MATH, name, a=a, b=b) == {"error": error}


async def test_weather_depends_on_the_name_of_the_place() -> None:
    """The documented formula: the sum of the bytes of "Lisbon" is 615."""
    assert await call(test_packs.TEST_WEATHER, "get_weather", location="Lisbon") == {
        "location": "Lisbon",
        "temperature": 25,
        "units": "celsius",
        "conditions": "sunny",
        "humidity": 45,
        "wind_speed_kmh": 20,
        "timestamp": "2026-01-15T23:30:05Z",
    }


async def test_weather_converts_when_fahrenheit_is_asked_for() -> None:
    """25 degrees Celsius are 77 Fahrenheit."""
    celsius = await call(test_packs.TEST_WEATHER, "get_weather", location="Lisbon")
    fahrenheit = await call(test_packs.TEST_WEATHER, "get_weather", location="Lisbon", units="fahrenheit")
    assert (celsius["temperature"], fahrenheit["temperature"], fahrenheit["units"]) == (25, 77, "fahrenheit")


async def test_forecast_has_a_row_for_each_day() -> None:
    """Day n is the weather of the seed plus seven times n, from today on."""
    result = await call(test_packs.TEST_WEATHER, "get_forecast", location="Lisbon", days=7)
    assert [day["date"] for day in result["forecast"]] == [f"2026-01-{15 + offset}" for offset in range(7)]
    assert [day["high"] for day in result["forecast"]] == [25, 32, 39, 11, 18, 25, 32]
    assert all(day["low"] < day["high"] and 0 <= day["precipitation_chance"] <= 100 for day in result["forecast"])
    assert len((await call(test_packs.TEST_WEATHER, "get_forecast", location="Lisbon"))["forecast"]) == 3


def todo(status: str, content: str = "Do it") -> dict[str, str]:
    """A task."""
    return {"content": content, "activeForm": "Doing it", "status": status}


async def test_todos_are_counted_and_returned() -> None:
    """The whole list comes back with its counts."""
    todos = [todo("completed"), todo("in_progress"), todo("pending"), todo("pending")]
    assert await call(todo_list.TODO_LIST, "write_todos", todos=todos) == {
        "success": True,
        "total_tasks": 4,
        "pending": 2,
        "in_progress": 1,
        "completed": 1,
        "todos": todos,
    }


@pytest.mark.parametrize(
    ("statuses", "warning"),
    [
        (["in_progress", "in_progress"], "2 tasks are in_progress; exactly one should be"),
        (["pending", "completed"], "No task is in_progress; mark the one you are working on"),
        (["completed"], None),
        ([], None),
    ],
)
async def test_todos_carry_a_warning_when_not_exactly_one_is_in_progress(
    statuses: list[str], warning: str | None
) -> None:
    """An unusual list is taken, with a hint."""
    result = await call(todo_list.TODO_LIST, "write_todos", todos=[todo(status) for status in statuses])
    assert result.get("warning") == warning


@pytest.mark.parametrize(
    ("todos", "error"),
    [
        ([{"content": "x", "status": "pending"}], "'activeForm' is a required property"),
        ([todo("done")], "'done' is not one of"),
        ([todo("pending", "")], "$.todos[0].content"),
        ([todo("pending"), todo("pending", " \n")], "Task 2: content is empty"),
        ([todo("pending") | {"extra": "x"}], "'extra' was unexpected"),
        ("none", "is not of type 'array'"),
    ],
)
async def test_todos_say_no_when_a_task_is_incomplete(todos: Any, error: str) -> None:
    """The error tells which task and which field."""
    assert error in (await call(todo_list.TODO_LIST, "write_todos", todos=todos))["error"]


def tool_that(handler: Any, kind: type[FunctionTool] = FunctionTool, seconds: float = 5.0) -> FunctionTool:
    """A tool with this handler that takes one number."""
    return kind("probe", "", arguments_schema(("n",), n={"type": "integer"}), handler, timeout_seconds=seconds)


async def test_execute_checks_the_arguments_before_it_runs() -> None:
    """Missing, unknown and mistyped arguments never reach the tool, and a huge value is not repeated to the model."""
    ran = False

    async def handler(_arguments: object, _context: object) -> None:
        nonlocal ran
        ran = True

    for arguments in ({}, {"n": "1"}, {"n": 1, "m": 2}, {"n": "x" * 100_000}):
        outcome = await execute(tool_that(handler), cast(Mapping[str, Any], arguments), CONTEXT)
        assert outcome.status == "success"
        assert outcome.result["error"].startswith("Invalid arguments: $")
        assert len(outcome.result["error"]) < 500
    assert not ran


async def test_execute_does_not_evaluate_the_schema_of_a_remote_tool() -> None:
    """A schema from outside can be made to take for ever; its own server checks the arguments."""

    async def handler(arguments: Mapping[str, Any], _context: object) -> Any:
        return arguments["n"]

    assert await execute(tool_that(handler, RemoteTool), {"n": "text"}, CONTEXT) == ToolOutcome("success", "text")


async def test_execute_returns_an_error_of_the_tool_as_its_result() -> None:
    """What a tool wants the model to read is a normal result."""

    async def handler(_arguments: object, _context: object) -> None:
        raise ToolError("no such \ud800 thing")

    assert await execute(tool_that(handler), {"n": 1}, CONTEXT) == ToolOutcome("success", {"error": "no such ? thing"})


async def test_execute_hides_and_logs_what_broke() -> None:
    """An internal failure reaches the log, and the model only as a fixed text."""

    async def handler(_arguments: object, _context: object) -> None:
        raise KeyError("password of the database")

    with structlog.testing.capture_logs() as logs:
        outcome = await execute(tool_that(handler), {"n": 1}, CONTEXT)
    assert outcome == ToolOutcome("error", error=INTERNAL_TEXT)
    assert [(entry["event"], entry["tool"]) for entry in logs] == [("tool broke", "probe")]


@pytest.mark.parametrize("result", [float("nan"), "\ud800", {"a": object()}, b"bytes"])
async def test_execute_fails_when_the_result_is_not_json(result: object) -> None:
    """What cannot be printed does not come as far as the event log."""

    async def handler(_arguments: object, _context: object) -> object:
        return result

    assert (await execute(tool_that(handler), {"n": 1}, CONTEXT)).status == "error"


async def test_execute_ends_a_call_that_takes_too_long() -> None:
    """At its limit the call is cancelled, and the outcome says timeout."""
    cancelled = False

    async def handler(_arguments: object, _context: object) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled = True

    outcome = await execute(tool_that(handler, seconds=0.01), {"n": 1}, CONTEXT)
    assert outcome == ToolOutcome("timeout", error="The tool did not finish within 0.01 seconds")
    assert cancelled


async def test_execute_tells_a_timeout_inside_the_tool_from_its_own() -> None:
    """A tool that raises TimeoutError by itself is broken, not late."""

    async def handler(_arguments: object, _context: object) -> None:
        raise TimeoutError

    assert (await execute(tool_that(handler), {"n": 1}, CONTEXT)).status == "error"


async def test_execute_passes_a_cancellation_on() -> None:
    """A cancelled turn ends the call at once."""

    async def handler(_arguments: object, _context: object) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(execute(tool_that(handler), {"n": 1}, CONTEXT))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
