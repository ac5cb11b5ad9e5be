"""An MCP server over streamable HTTP whose tools take 300 ms, for turns that are worth interrupting.

    python naps.py PORT [SECONDS]

``nap`` says that it only reads, ``stamp`` that it does not: after a crash the first is run again, the second is not.
"""

from __future__ import annotations

import asyncio
import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

seconds = 0.3

server = MCPServer("naps")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def nap() -> str:
    """Sleep for 300 ms."""
    await asyncio.sleep(seconds)
    return "slept"


@server.tool(annotations=ToolAnnotations(read_only_hint=False))
async def stamp() -> str:
    """Take 300 ms to leave a mark."""
    await asyncio.sleep(seconds)
    return "stamped"


if __name__ == "__main__":
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else seconds
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
