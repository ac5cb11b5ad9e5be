"""Arithmetic and invented weather: tools with predictable answers, for tests of agents."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.capabilities.ports import ToolContext, ToolError

Number = int | float
# A JSON reader holds numbers as doubles; what is larger would arrive as something else.
_LARGEST = 10**308

_CONDITIONS = ("sunny", "partly cloudy", "cloudy", "rainy", "windy")


def _quotient(a: Number, b: Number) -> Number:
    if b == 0:
        raise ToolError("Division by zero")
    result = a / b
    return int(result) if result.is_integer() and abs(result) < 2**53 else result


def _calculation(name: str, description: str, calculate: Callable[[Number, Number], Number]) -> FunctionTool:
    async def handler(arguments: Mapping[str, Any], _context: ToolContext) -> Mapping[str, Any]:
        a, b = arguments["a"], arguments["b"]
        try:
            result = calculate(a, b)
            representable = math.isfinite(result) and abs(result) <= _LARGEST
        except OverflowError:
            representable = False
        if not representable:
            raise ToolError("The result is too large")
        return {"result": result, "operation": name, "a": a, "b": b}

    number = {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}
    return FunctionTool(name, description, arguments_schema(("a", "b"), a=number, b=number), handler)


TEST_MATH = Capability(
    id="test_math",
    name="Test Math",
    description="Adds, subtracts, multiplies and divides two numbers.",
    icon="calculator",
    category="Testing",
    prompt="Do every calculation with the tools add, subtract, multiply and divide.",
    tools=(
        _calculation("add", "Add two numbers: a + b.", lambda a, b: a + b),
        _calculation("subtract", "Subtract one number from another: a - b.", lambda a, b: a - b),
        _calculation("multiply", "Multiply two numbers: a * b.", lambda a, b: a * b),
        _calculation("divide", "Divide one number by another: a / b.", _quotient),
    ),
)


def _seed(location: str) -> int:
    return sum(location.encode("utf-8", "replace"))


def _temperature(celsius: int, units: str) -> int:
    return celsius if units == "celsius" else round(celsius * 9 / 5 + 32)


async def _get_weather(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    location, units = arguments["location"], arguments.get("units", "celsius")
    seed = _seed(location)
    return {
        "location": location,
        "temperature": _temperature(5 + seed % 35, units),
        "units": units,
        "conditions": _CONDITIONS[seed % 5],
        "humidity": 30 + seed % 50,
        "wind_speed_kmh": 5 + seed % 30,
        "timestamp": context.now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


async def _get_forecast(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    location, units, days = arguments["location"], arguments.get("units", "celsius"), int(arguments.get("days", 3))
    forecast = []
    for offset in range(days):
        seed = _seed(location) + 7 * offset
        high = 5 + seed % 35
        forecast.append(
            {
                "date": (context.now + datetime.timedelta(days=offset)).date().isoformat(),
                "high": _temperature(high, units),
                "low": _temperature(high - 3 - seed % 8, units),
                "conditions": _CONDITIONS[seed % 5],
                "precipitation_chance": seed % 101,
            }
        )
    return {"location": location, "units": units, "days": days, "forecast": forecast}


_LOCATION = {"type": "string", "minLength": 1, "maxLength": 500, "description": "A place, for example Lisbon."}
_UNITS = {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "celsius by default."}

TEST_WEATHER = Capability(
    id="test_weather",
    name="Test Weather",
    description="Invented weather that depends only on the name of the place.",
    icon="cloud-sun",
    category="Testing",
    prompt="Use get_weather for the weather now and get_forecast for the coming days.",
    tools=(
        FunctionTool(
            "get_weather",
            "Get the current weather of a place.",
            arguments_schema(("location",), location=_LOCATION, units=_UNITS),
            _get_weather,
        ),
        FunctionTool(
            "get_forecast",
            "Get the weather forecast of a place for up to seven days, today included.",
            arguments_schema(
                ("location",),
                location=_LOCATION,
                days={"type": "integer", "minimum": 1, "maximum": 7, "description": "3 by default."},
                units=_UNITS,
            ),
            _get_forecast,
        ),
    ),
)
