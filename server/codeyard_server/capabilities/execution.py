"""Runs one tool call: checks its arguments, keeps its time limit, and sorts out whose fault a failure is."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, Literal

import jsonschema
import referencing
import structlog

from codeyard_server.capabilities.definition import RemoteTool
from codeyard_server.capabilities.ports import Tool, ToolContext, ToolError
from codeyard_server.core import canonical

INTERNAL_TEXT = "The tool failed because of an internal error"
"""What the model reads when a tool broke; the cause is in the log."""
_MAX_MESSAGE = 400

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended.

    ``success``: ``result`` is a JSON value, ``{"error": text}`` where the tool itself says no. ``timeout`` and
    ``error``: ``error`` is the text for the model, ``result`` is None.
    """

    status: Literal["success", "error", "timeout"]
    result: Any = None
    error: str | None = None


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Check arguments against the tool's schema.

    Raises:
        ToolError: they do not fit; the text says where.
    """
    problem = jsonschema.exceptions.best_match(_validator(json.dumps(tool.parameters)).iter_errors(arguments))
    if problem is not None:
        message = problem.message if len(problem.message) <= _MAX_MESSAGE else f"{problem.message[:_MAX_MESSAGE]}…"
        raise ToolError(f"Invalid arguments: {problem.json_path}: {message}")


async def execute(tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
    """Run a call to its end. Never raises, except when the caller is cancelled."""
    limit = asyncio.timeout(tool.timeout_seconds)
    try:
        if not isinstance(tool, RemoteTool):
            check_arguments(tool, arguments)
        async with limit:
            result = await tool.run(arguments, context)
        canonical.text(result).encode()  # what cannot be printed must not come as far as the event log
        return ToolOutcome("success", result=result)
    except ToolError as error:
        return ToolOutcome("success", result={"error": str(error).encode(errors="replace").decode()})
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return ToolOutcome("timeout", error=f"The tool did not finish within {tool.timeout_seconds:g} seconds")
        log.exception("tool broke", tool=tool.name, session_id=str(context.session_id))
        return ToolOutcome("error", error=INTERNAL_TEXT)


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    """Return the validator of a schema, given as JSON text. An empty registry: a reference is never fetched."""
    return jsonschema.Draft202012Validator(json.loads(schema), registry=referencing.Registry())
