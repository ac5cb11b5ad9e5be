"""From what an MCP server sends to what the capabilities domain knows: tools, and results as JSON values."""

from __future__ import annotations

from typing import Any

import mcp_types

from codeyard_server.capabilities.ports import McpTool, ToolError
from codeyard_server.core import canonical

_MAX_NAME = 200
_MAX_DESCRIPTION = 4000
_MAX_SCHEMA = 32_000
_MAX_ERROR = 10_000


def cut(text: str, limit: int) -> str:
    """Return text, shortened to limit characters with a mark where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tool_of(described: mcp_types.Tool) -> McpTool | None:
    """Return a tool, or None for one that no model can be offered: without a name, or with an odd or huge schema."""
    schema = described.input_schema
    if not 0 < len(described.name) <= _MAX_NAME or schema.get("type") != "object":
        return None
    try:
        if len(canonical.text(schema)) > _MAX_SCHEMA:
            return None
    except (ValueError, RecursionError):
        return None
    annotations = described.annotations
    return McpTool(
        name=described.name,
        description=cut(described.description or described.title or described.name, _MAX_DESCRIPTION),
        parameters=schema,
        read_only=bool(annotations and annotations.read_only_hint),
    )


def value_of(result: Any, limit: int) -> Any:
    """Return a call's result as a JSON value of at most about limit bytes.

    One text comes as a string, structured content as it is; anything else as ``{"content": [...]}``, where images,
    sounds and binary resources are described, not included. What is too large is cut and marked ``truncated``.

    Raises:
        ToolError: the tool reports a failure, or the server wants something that it cannot have here.
    """
    if not isinstance(result, mcp_types.CallToolResult):
        raise ToolError("The tool asks for something that is not available here")
    texts = [block.text for block in result.content if isinstance(block, mcp_types.TextContent)]
    if result.is_error:
        raise ToolError(cut("\n".join(texts) or "The tool failed without saying why", _MAX_ERROR))
    only_text = len(texts) == len(result.content)
    if result.structured_content is not None and only_text:
        # By the protocol the text repeats the structured content.
        return _bounded(result.structured_content, limit)
    if only_text:
        return _bounded(texts[0] if len(texts) == 1 else "\n".join(texts), limit)
    value: dict[str, Any] = {"content": [_block(block) for block in result.content]}
    if result.structured_content is not None:
        value["structured_content"] = result.structured_content
    return _bounded(value, limit)


def _bounded(value: Any, limit: int) -> Any:
    text = value if isinstance(value, str) else canonical.text(value)
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return value
    return {"truncated": True, "size_bytes": len(encoded), "text": encoded[:limit].decode(errors="ignore")}


def _block(block: mcp_types.ContentBlock) -> dict[str, Any]:
    if isinstance(block, mcp_types.TextContent):
        return {"type": "text", "text": block.text}
    if isinstance(block, mcp_types.ImageContent | mcp_types.AudioContent):
        return {"type": block.type, "mime_type": block.mime_type, "size_bytes": _size(block.data)}
    if isinstance(block, mcp_types.ResourceLink):
        link = {"uri": block.uri, "name": block.name, "description": block.description, "mime_type": block.mime_type}
        return {"type": "resource_link", **_present(link)}
    resource = block.resource
    members = {"uri": resource.uri, "mime_type": resource.mime_type}
    if isinstance(resource, mcp_types.TextResourceContents):
        return {"type": "resource", **_present(members), "text": resource.text}
    return {"type": "resource", **_present(members), "size_bytes": _size(resource.blob)}


def _size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
