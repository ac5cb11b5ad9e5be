"""An MCP server with tools that misbehave.

    python odd_server.py stdio
    python odd_server.py PORT
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import mcp_types
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("odd")


@server.tool()
async def pid() -> str:
    """Return the server's process id."""
    return str(os.getpid())


@server.tool()
async def crash() -> str:
    """End the server in the middle of the call."""
    os._exit(3)


@server.tool()
async def hang() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return ""


@server.tool()
async def text(size: int) -> str:
    """Return a text of so many characters."""
    return "x" * size


@server.tool()
async def fail() -> str:
    """Fail with a message."""
    raise ValueError("out of luck")


@server.tool()
async def grow(context: Context[Any]) -> str:
    """Add a tool, and tell the client."""

    def added() -> str:
        return "added"

    server.add_tool(added)
    await context.session.send_tool_list_changed()
    return "grown"


async def _evil() -> dict[str, str]:
    return {"value": "a" * 60 + "!"}


def add_evil_tool() -> None:
    """Add a tool whose output schema takes a backtracking engine for ever to evaluate."""
    server.add_tool(_evil, name="evil")
    tools = server._tool_manager._tools
    schema = {"type": "object", "properties": {"value": {"type": "string", "pattern": "^(a+)+$"}}}
    described = tools["evil"]
    described.fn_metadata.output_schema = schema


if __name__ == "__main__":
    assert mcp_types
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
