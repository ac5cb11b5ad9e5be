"""What a tool is, and what tools ask of the outside."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from codeyard_server.core.scope import Scope


class ToolError(Exception):
    """A failure meant for the model: it becomes the normal result ``{"error": text}``, and the loop goes on."""


@dataclasses.dataclass(frozen=True, slots=True)
class ToolContext:
    """Where a call happens."""

    scope: Scope
    session_id: uuid.UUID
    files: FileStore
    now: datetime.datetime
    """Aware, UTC."""


class Tool(Protocol):
    """One tool, offered to the model by a capability."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema object of the arguments. Arguments are validated against it before run() is called."""
    policy: Literal["auto", "requires_approval"]
    read_only: bool
    """A read-only call that a crash interrupted is run again; another is reported to the model as interrupted."""
    timeout_seconds: float

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Run the call and return a JSON value.

        Raises:
            ToolError: a failure the model should read.
            Exception: an internal failure; logged, and replaced by a fixed text before the model sees it.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory of a session's tree."""

    path: str
    """Absolute, starts with "/"."""
    is_directory: bool
    is_readonly: bool
    size_bytes: int
    created_at: datetime.datetime
    updated_at: datetime.datetime

    @property
    def name(self) -> str:
        """Last segment; "/" for the root."""
        return self.path.rsplit("/", 1)[-1] or "/"


@dataclasses.dataclass(frozen=True, slots=True)
class GrepMatch:
    """A line that matched."""

    path: str
    line_number: int
    """From 1."""
    line: str


class FileStore(Protocol):
    """A session's own file tree. Paths are absolute; the root exists; parents are created.

    Every method raises ToolError for a bad path, a missing file, a directory in the place of a file and so on.
    """

    async def read(self, scope: Scope, session_id: uuid.UUID, path: str) -> tuple[FileInfo, bytes]: ...

    async def write(self, scope: Scope, session_id: uuid.UUID, path: str, content: bytes) -> FileInfo: ...

    async def list(self, scope: Scope, session_id: uuid.UUID, path: str) -> Sequence[FileInfo]: ...

    async def grep(
        self, scope: Scope, session_id: uuid.UUID, pattern: str, path_pattern: str | None
    ) -> Sequence[GrepMatch]: ...

    async def delete(self, scope: Scope, session_id: uuid.UUID, path: str, *, recursive: bool) -> None: ...

    async def stat(self, scope: Scope, session_id: uuid.UUID, path: str) -> FileInfo | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class WebDocument:
    """What an address answered."""

    url: str
    """The address that answered, after redirects."""
    status_code: int
    content_type: str | None
    """The header as it was sent."""
    size_bytes: int | None
    """As announced, else as read; None when neither is known."""
    last_modified: str | None
    """The header as it was sent."""
    filename: str | None
    """From Content-Disposition, else the last segment of the path."""
    body: bytes | None
    """None for HEAD and for content that is not text."""
    truncated: bool
    """Whether body is only the beginning."""


class WebFetcher(Protocol):
    """Fetches public web addresses; never one of the private network."""

    async def fetch(self, url: str, *, method: Literal["GET", "HEAD"]) -> WebDocument:
        """Fetch one address.

        Raises:
            ToolError: the address is refused, does not answer in time or does not speak HTTP.
        """
        ...


class HtmlConverter(Protocol):
    """Turns HTML pages of whatever origin into something a model can read."""

    async def convert(self, html: str, output: Literal["markdown", "text"]) -> str:
        """Return a page as Markdown or as plain text; a very long one may be cut.

        Raises:
            ToolError: the page cannot be converted.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server and how it is reached: by ``url`` (streamable HTTP) or by ``command`` (stdio)."""

    key: str
    """Names this server with this configuration in the process: another key is another connection."""
    name: str
    """Slug; the capability is ``mcp:<name>``."""
    trusted: bool = False
    """Whether the administrator named it: its own address may then be dialled wherever it is."""
    url: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Sent with every request; may hold secrets."""
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class McpTool:
    """A tool as its server describes it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema object of the arguments."""
    read_only: bool
    """What the server says about it."""


class McpClient(Protocol):
    """Holds the connections to MCP servers, opens them when needed and again after a failure."""

    async def tools(self, server: McpServer) -> Sequence[McpTool]:
        """Return the server's tools; an answer is kept for a minute.

        Raises:
            ToolError: the server cannot be reached or misbehaves.
        """
        ...

    async def call(self, server: McpServer, tool: McpTool, arguments: Mapping[str, Any]) -> Any:
        """Call a tool and return a JSON value.

        Raises:
            ToolError: the tool failed, or the server did.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection and end every server that was started."""
        ...
