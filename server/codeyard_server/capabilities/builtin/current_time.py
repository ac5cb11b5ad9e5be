"""The clock."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Mapping
from typing import Any

from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.capabilities.ports import ToolContext, ToolError


@functools.cache
def _zones() -> frozenset[str]:
    """Return the names of all time zones. A name is looked up here, because ZoneInfo takes it for a file path."""
    return frozenset(zoneinfo.available_timezones())


async def _get_current_time(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    name = arguments.get("timezone", "UTC")
    form = arguments.get("format", "iso8601")
    if name not in _zones():
        raise ToolError(f"Unknown time zone {name!r}; use an IANA name such as Europe/Vienna")
    moment = context.now.astimezone(zoneinfo.ZoneInfo(name))
    if form == "unix":
        return {"timestamp": int(moment.timestamp()), "format": form, "timezone": name}
    if form == "human":
        text = f"{moment:%A}, {moment.day} {moment:%B %Y, %H:%M:%S %Z}"
    else:
        text = moment.isoformat(timespec="seconds")
    return {"datetime": text, "format": form, "timezone": name}


CURRENT_TIME = Capability(
    id="current_time",
    name="Current Time",
    description="Tells the date and the time in any time zone.",
    icon="clock",
    category="Utilities",
    tools=(
        FunctionTool(
            name="get_current_time",
            description="Get the current date and time in a time zone.",
            parameters=arguments_schema(
                timezone={
                    "type": "string",
                    "maxLength": 100,
                    "description": "IANA time zone, for example Europe/Vienna; UTC by default.",
                },
                format={
                    "type": "string",
                    "enum": ["iso8601", "unix", "human"],
                    "description": "iso8601 (default), unix (seconds since 1970) or human (a sentence).",
                },
            ),
            handler=_get_current_time,
        ),
    ),
)
