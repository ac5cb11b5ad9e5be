"""What the catalogue is made of: a capability, and a tool that is a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from codeyard_server.capabilities.ports import Tool, ToolContext

Status = Literal["available", "coming_soon", "deprecated"]


@dataclasses.dataclass(slots=True)
class FunctionTool:
    """A Tool whose work is one coroutine function of (arguments, context)."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    handler: Callable[[Mapping[str, Any], ToolContext], Awaitable[Any]]
    read_only: bool = True
    timeout_seconds: float = 10.0
    policy: Literal["auto", "requires_approval"] = "auto"

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Run the call; see Tool.run."""
        return await self.handler(arguments, context)


@dataclasses.dataclass(slots=True)
class RemoteTool(FunctionTool):
    """A tool that runs elsewhere, where its arguments are checked.

    Its schema comes from outside and is not evaluated here: it can be written so that evaluating it takes for ever.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class Capability:
    """An entry of the catalogue. Its prompt and its tools take effect only while it is available."""

    id: str
    name: str
    description: str
    status: Status = "available"
    icon: str | None = None
    """Name of a lucide icon."""
    category: str | None = None
    prompt: str | None = None
    """Text for the system prompt."""
    tools: tuple[Tool, ...] = ()
    tool_type: Literal["builtin", "mcp"] = "builtin"
    aliases: tuple[str, ...] = ()
    """Other ids under which it may be asked for; never printed."""


def arguments_schema(required: Sequence[str] = (), **properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON Schema of an object with exactly these properties."""
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return schema
