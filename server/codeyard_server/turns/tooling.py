"""One tool call of a turn, and which calls may run again after a crash."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from codeyard_server.capabilities import execute
from codeyard_server.capabilities.ports import Tool, ToolContext
from codeyard_server.core import canonical, telemetry
from codeyard_server.models.ports import ToolCall


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: a status of ToolCallCompleted, and a JSON value or why there is none."""

    status: str
    answer: Any = None
    error: str | None = None


async def run_call(tools: Mapping[str, Tool], call: ToolCall, context: ToolContext, max_bytes: int) -> Outcome:
    """Run one call. Never raises but for a cancel: what goes wrong is an outcome the model can read."""
    tool = tools.get(call.name)
    if tool is None:
        return Outcome("error", error=f"There is no tool {call.name!r}")
    if tool.policy == "requires_approval":
        return Outcome("error", error="This tool needs an approval, and nobody can give it here")
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.id,
    }
    with telemetry.tracer.start_as_current_span(f"execute_tool {call.name}", attributes=attributes):
        outcome = await execute(tool, call.arguments, context)
    if outcome.error is not None:
        return Outcome(outcome.status, error=outcome.error)
    if canonical.is_too_deep(outcome.result):
        return Outcome("success", {"error": f"The answer is nested by more than {canonical.MAX_DEPTH} levels"})
    size = len(canonical.text(canonical.integral(outcome.result)))
    if size > max_bytes:
        return Outcome("success", {"error": f"The answer has {size} bytes, more than the {max_bytes} that are taken"})
    return Outcome("success", outcome.result)


def to_run_again(tools: Mapping[str, Tool], calls: Sequence[ToolCall], finished: Mapping[int, bool]) -> set[int]:
    """Return the places of calls that a crash interrupted and that may simply run again: the read-only ones."""
    return {
        place
        for place, call in enumerate(calls)
        if place not in finished and (call.name not in tools or tools[call.name].read_only)
    }
