"""The session's own files: six tools over the FileStore of the call."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from codeyard_server.capabilities import paths
from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.capabilities.ports import FileInfo, ToolContext, ToolError
from codeyard_server.core import canonical

MAX_READ_CHARACTERS = 200_000
"""Longest content of one read_file result: a file may be larger than what a model can take."""

_PROMPT = """\
## Session files

This session has a file store of its own. It starts empty, only this session sees it, and it stays as long as the
session does. Use it for notes, drafts, data and results that are too long for the conversation.

Tools: read_file, write_file, list_directory, grep_files, delete_file, stat_file.

- Paths are absolute, for example /notes/plan.md. Missing parent directories are created.
- Look before you act: list_directory shows what is there, stat_file tells what a path is, if it exists, and how large.
- Search many files at once with grep_files, and read only those that matter.
- write_file replaces the whole content of a file."""


def is_binary(content: bytes) -> bool:
    """Whether content is shown as base64: a NUL among its first 8192 bytes, or not UTF-8."""
    if b"\0" in content[:8192]:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


async def _read_file(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    info, content = await context.files.read(context.scope, context.session_id, arguments["path"])
    if is_binary(content):
        encoding, text = "base64", base64.b64encode(content[: MAX_READ_CHARACTERS // 4 * 3]).decode()
        truncated = len(content) > MAX_READ_CHARACTERS // 4 * 3
    else:
        encoding, whole = "text", content.decode()
        text, truncated = whole[:MAX_READ_CHARACTERS], len(whole) > MAX_READ_CHARACTERS
    result: dict[str, Any] = {"path": info.path, "content": text, "encoding": encoding, "size_bytes": info.size_bytes}
    return result | ({"truncated": True} if truncated else {})


async def _write_file(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    try:
        if arguments.get("encoding", "text") == "base64":
            content = base64.b64decode(arguments["content"], validate=True)
        else:
            content = arguments["content"].encode()
    except (binascii.Error, ValueError) as error:
        raise ToolError("content is not valid for this encoding") from error
    info = await context.files.write(context.scope, context.session_id, arguments["path"], content)
    return {"path": info.path, "size_bytes": info.size_bytes, "created": True}


def _entry(info: FileInfo) -> Mapping[str, Any]:
    return {
        "name": info.name,
        "path": info.path,
        "is_directory": info.is_directory,
        "size_bytes": info.size_bytes,
        "is_readonly": info.is_readonly,
    }


async def _list_directory(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    path = arguments.get("path", "/")
    entries = [_entry(info) for info in await context.files.list(context.scope, context.session_id, path)]
    return {"path": path, "entries": entries, "count": len(entries)}


async def _grep_files(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    pattern = arguments["pattern"]
    found = await context.files.grep(context.scope, context.session_id, pattern, arguments.get("path_pattern"))
    matches = [{"path": match.path, "line_number": match.line_number, "line": match.line} for match in found]
    result: dict[str, Any] = {"pattern": pattern, "matches": matches, "match_count": len(matches)}
    return result | ({"truncated": True} if len(matches) >= paths.MAX_MATCHES else {})


async def _delete_file(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    path, recursive = arguments["path"], arguments.get("recursive", False)
    await context.files.delete(context.scope, context.session_id, path, recursive=recursive)
    return {"path": path, "deleted": True}


async def _stat_file(arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
    info = await context.files.stat(context.scope, context.session_id, arguments["path"])
    if info is None:
        return {"path": arguments["path"], "exists": False}
    return {
        "path": info.path,
        "exists": True,
        "name": info.name,
        "is_directory": info.is_directory,
        "is_readonly": info.is_readonly,
        "size_bytes": info.size_bytes,
        "created_at": canonical.timestamp(info.created_at),
        "updated_at": canonical.timestamp(info.updated_at),
    }


_PATH = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "description": "Absolute path, for example /notes/plan.md.",
}

SESSION_FILE_SYSTEM = Capability(
    id="session_file_system",
    name="File System",
    description="A file store of the session: read, write, list, search and delete files.",
    icon="hard-drive",
    category="File Operations",
    prompt=_PROMPT,
    aliases=("file_system",),
    tools=(
        FunctionTool(
            "read_file",
            "Read a file. Binary content comes as base64.",
            arguments_schema(("path",), path=_PATH),
            _read_file,
        ),
        FunctionTool(
            "write_file",
            "Write a file, with its parent directories. An existing file is replaced.",
            arguments_schema(
                ("path", "content"),
                path=_PATH,
                content={"type": "string", "description": "The whole content."},
                encoding={
                    "type": "string",
                    "enum": ["text", "base64"],
                    "description": "How content is given; text by default.",
                },
            ),
            _write_file,
            read_only=False,
        ),
        FunctionTool(
            "list_directory",
            "List the entries of a directory: directories first, then by name.",
            arguments_schema(path=_PATH | {"description": "Absolute path; / by default."}),
            _list_directory,
        ),
        FunctionTool(
            "grep_files",
            "Search the lines of all text files with a regular expression (RE2 syntax).",
            arguments_schema(
                ("pattern",),
                pattern={"type": "string", "minLength": 1, "maxLength": 1000, "description": "Regular expression."},
                path_pattern={
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Search only files that match this glob: *.md (by name) or /src/**/*.py (by path).",
                },
            ),
            _grep_files,
            timeout_seconds=30.0,
        ),
        FunctionTool(
            "delete_file",
            "Delete a file or a directory.",
            arguments_schema(
                ("path",),
                path=_PATH,
                recursive={"type": "boolean", "description": "Delete a directory with all it holds; false by default."},
            ),
            _delete_file,
            read_only=False,
        ),
        FunctionTool(
            "stat_file",
            "Tell whether a path exists and what it is.",
            arguments_schema(("path",), path=_PATH),
            _stat_file,
        ),
    ),
)
