"""Talks to MCP servers: opens a connection when one is needed, keeps it, and opens it again after a failure.

A connection is one task that holds the SDK's context managers, because they must be left by the task that entered them.
Calls run in the tasks of their callers. When the server dies, is restarted or misbehaves, the task ends; callers get a
ToolError, and the next call opens a new connection. Nothing a server does reaches further than that.

Servers are not trusted: addresses are checked when they are dialled, answers are bounded, compressed ones are refused,
and the JSON Schemas a server sends are passed on but never evaluated here (one can be written so that evaluating it
takes for ever).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx2
import mcp_types
import structlog
from mcp.client.session import ClientSession, IncomingMessage
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from pydantic import ValidationError

from codeyard_server.adapters.mcp_results import cut, tool_of, value_of
from codeyard_server.adapters.outbound import AddressGuard, AddressRefusedError, GuardedTransport
from codeyard_server.capabilities.ports import McpServer, McpTool, ToolError

T = TypeVar("T")

_MAX_ERROR = 2000
_SESSION_HEADER = "mcp-session-id"
# What servers (and the SDK, where a server sends no error of its own) call a session that is gone.
_SESSION_LOST = frozenset(
    {
        mcp_types.CONNECTION_CLOSED,
        mcp_types.REQUEST_TIMEOUT,
        mcp_types.INTERNAL_ERROR,
        mcp_types.INVALID_REQUEST,
    }
)

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class McpLimits:
    """Limits of every server. Times are seconds."""

    open_seconds: float = 15.0
    """To start or connect, and to agree on the protocol."""
    list_seconds: float = 10.0
    call_seconds: float = 60.0
    tools_kept_seconds: float = 60.0
    """How long a list of tools is used before the server is asked again."""
    failure_kept_seconds: float = 15.0
    """How long a server that cannot be reached is left alone."""
    idle_seconds: float = 300.0
    """How long an unused connection stays open."""
    connections: int = 256
    """Connections of this process; the one that was unused longest makes room."""
    tools: int = 256
    """Tools of one server; the rest is left out."""
    response_bytes: int = 4 * 1024 * 1024
    """Largest JSON answer; an event of a stream is limited to 1 MiB by the SDK."""
    result_bytes: int = 200_000
    """Largest result of a call, as JSON; what is larger is cut."""


class McpConnections:
    """Implements McpClient for one process.

    Args:
        guard: decides which addresses may be dialled.
        limits: of every server.
        clock: seconds that only grow.
    """

    def __init__(
        self, guard: AddressGuard, limits: McpLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._guard = guard
        self._limits = limits or McpLimits()
        self._clock = clock
        self._open: dict[str, _Connection] = {}
        self._listings: dict[str, _Listing] = {}

    async def tools(self, server: McpServer) -> Sequence[McpTool]:
        """Return the server's tools; see McpClient.tools."""
        listing = self._listing(server)
        async with listing.lock:
            if listing.expires <= self._clock():
                await self._refresh(server, listing)
        if listing.failure is not None:
            raise ToolError(listing.failure)
        return listing.tools

    async def call(self, server: McpServer, tool: McpTool, arguments: Mapping[str, Any]) -> Any:
        """Call a tool; see McpClient.call."""
        result = await self._with_session(
            server,
            lambda session: session.call_tool(
                tool.name, dict(arguments), read_timeout_seconds=self._limits.call_seconds
            ),
            repeatable=tool.read_only,
        )
        return value_of(result, self._limits.result_bytes)

    async def aclose(self) -> None:
        """Close all connections; see McpClient.aclose."""
        connections = list(self._open.values())
        self._open.clear()
        await asyncio.gather(*(connection.aclose() for connection in connections))

    def _listing(self, server: McpServer) -> _Listing:
        now = self._clock()
        stale = [key for key, kept in self._listings.items() if kept.expires <= now and not kept.lock.locked()]
        for key in stale:
            if key != server.key:
                del self._listings[key]
        return self._listings.setdefault(server.key, _Listing())

    async def _refresh(self, server: McpServer, listing: _Listing) -> None:
        listing.failure = None
        try:
            listing.tools = await self._with_session(server, self._list, repeatable=True)
            listing.expires = self._clock() + self._limits.tools_kept_seconds
        except ToolError as error:
            listing.failure = str(error)
            listing.expires = self._clock() + self._limits.failure_kept_seconds
            log.warning("mcp.unavailable", server=server.name, error=str(error))

    async def _list(self, session: ClientSession) -> Sequence[McpTool]:
        tools: dict[str, McpTool] = {}
        cursor: str | None = None
        async with asyncio.timeout(self._limits.list_seconds):
            while len(tools) < self._limits.tools:
                page = await session.list_tools(params=mcp_types.PaginatedRequestParams(cursor=cursor))
                for described in page.tools:
                    tool = tool_of(described)
                    if tool is not None:
                        tools.setdefault(tool.name, tool)
                cursor = page.next_cursor
                if cursor is None or not page.tools:
                    break
        return tuple(tools.values())[: self._limits.tools]

    async def _with_session(
        self, server: McpServer, action: Callable[[ClientSession], Awaitable[T]], *, repeatable: bool
    ) -> T:
        """Run an action on the server's session, on a new one if the session turns out to have ended before.

        Raises:
            ToolError: the server cannot be reached, fails the action, or breaks the protocol.
        """
        for attempt in (1, 2):
            connection = await self._connection(server)
            try:
                with connection.in_use():
                    return await action(connection.session)
            except MCPError as error:
                refused = connection.session_lost and error.code in _SESSION_LOST
                broken = connection.ended or error.code == mcp_types.CONNECTION_CLOSED
                if broken or refused:
                    await self._drop(server, connection)
                    if attempt == 1 and (repeatable or refused):
                        continue
                raise ToolError(_explain(server, error, broken and not refused)) from error
            except TimeoutError as error:
                raise ToolError(f"The MCP server {server.name} did not answer in time") from error
            except (ValidationError, RuntimeError, ValueError) as error:
                raise ToolError(f"The MCP server {server.name} gave an answer that breaks the protocol") from error
        raise AssertionError("the second attempt returns or raises")

    async def _connection(self, server: McpServer) -> _Connection:
        """Return an open connection."""
        while True:
            connection = self._open.get(server.key)
            if connection is not None and connection.ended:
                self._remove(server.key, connection)
            elif connection is not None:
                break
            elif len(self._open) >= self._limits.connections:
                await self._make_room()
            else:
                connection = self._opened(server)
                break
        await connection.opened()
        return connection

    def _opened(self, server: McpServer) -> _Connection:
        connection = _Connection(server, self._guard, self._limits, lambda: self._forget_tools(server))
        self._open[server.key] = connection
        connection.task.add_done_callback(lambda _: self._remove(server.key, connection))
        return connection

    async def _make_room(self) -> None:
        """Close the connection that was unused longest, one in use only if all are."""
        key, connection = min(self._open.items(), key=lambda item: (item[1].busy, item[1].last_used))
        self._remove(key, connection)
        await connection.aclose()

    async def _drop(self, server: McpServer, connection: _Connection) -> None:
        self._remove(server.key, connection)
        await connection.aclose()

    def _remove(self, key: str, connection: _Connection) -> None:
        if self._open.get(key) is connection:
            del self._open[key]

    def _forget_tools(self, server: McpServer) -> None:
        if server.key in self._listings:
            self._listings[server.key].expires = 0.0


@dataclasses.dataclass(slots=True)
class _Listing:
    """What a server answered, or why it did not."""

    expires: float = 0.0
    tools: Sequence[McpTool] = ()
    failure: str | None = None
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


class _Session(ClientSession):
    """The SDK's session, without the evaluation of schemas that come from the server."""

    async def validate_tool_result(self, name: str, result: mcp_types.CallToolResult) -> None:
        """Accept every result."""


class _Dispatcher(JSONRPCDispatcher[Any]):
    """The SDK's dispatcher, which also tells when the other side has gone."""

    def __init__(self, *streams: Any) -> None:
        super().__init__(*streams)
        self.ended = asyncio.Event()

    async def run(self, *arguments: Any, **options: Any) -> None:
        """Run until the other side closes."""
        try:
            await super().run(*arguments, **options)
        finally:
            self.ended.set()


class _Connection:
    """One connection to a server, and the task that holds it."""

    def __init__(
        self, server: McpServer, guard: AddressGuard, limits: McpLimits, on_tools_changed: Callable[[], None]
    ) -> None:
        self._server = server
        self._guard = guard
        self._limits = limits
        self._on_tools_changed = on_tools_changed
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._transport: _HttpTransport | None = None
        self._ended: asyncio.Event | None = None
        self._users = 0
        self.last_used = time.monotonic()
        self.failure: BaseException | None = None
        self.task = asyncio.create_task(self._hold(), name=f"mcp:{server.name}")

    @property
    def session(self) -> ClientSession:
        """The session; only after opened()."""
        return self._ready.result()

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return self._users > 0

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.task.done() or self._stop.is_set() or (self._ended is not None and self._ended.is_set())

    @property
    def session_lost(self) -> bool:
        """Whether the server no longer knows the session. It finds that before it acts on a request."""
        return self._transport is not None and self._transport.session_lost

    async def opened(self) -> None:
        """Wait until the connection stands.

        Raises:
            ToolError: the server cannot be reached.
        """
        waits: set[asyncio.Future[Any]] = {self._ready, self.task}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done() or self._ready.cancelled():
            raise ToolError(_unreachable(self._server, self.failure))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the connection from being closed as idle."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self.last_used = time.monotonic()

    async def aclose(self) -> None:
        """Close the connection and wait until it is closed."""
        self._stop.set()
        await asyncio.wait({self.task})

    async def _hold(self) -> None:
        try:
            async with self._streams() as streams:
                dispatcher = _Dispatcher(*streams)
                self._ended = dispatcher.ended
                session = _Session(
                    dispatcher=dispatcher,
                    client_info=mcp_types.Implementation(name="codeyard", version="1"),
                    message_handler=self._on_message,
                )
                async with session:
                    async with asyncio.timeout(self._limits.open_seconds):
                        await _agree(session)
                    self._ready.set_result(session)
                    await self._until_over(dispatcher.ended)
                    if dispatcher.ended.is_set():
                        log.warning("mcp.server_gone", server=self._server.name)
        except Exception as error:  # noqa: BLE001 - whatever a server causes ends here
            self.failure = error
            log.info("mcp.connection_lost", server=self._server.name, error=_reason(error))
        finally:
            self._ready.cancel()

    async def _until_over(self, ended: asyncio.Event) -> None:
        """Wait until the connection is to be closed: it was asked for, the server has gone, or nobody needs it."""
        waits = {asyncio.create_task(self._stop.wait()), asyncio.create_task(ended.wait())}
        try:
            while True:
                done, _ = await asyncio.wait(
                    waits, timeout=self._limits.idle_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if done or (not self.busy and time.monotonic() - self.last_used >= self._limits.idle_seconds):
                    return
        finally:
            self._stop.set()
            for wait in waits:
                wait.cancel()

    @contextlib.asynccontextmanager
    async def _streams(self) -> AsyncIterator[Any]:
        server = self._server
        if server.url is None:
            parameters = StdioServerParameters(
                command=server.command or "", args=list(server.args), env=dict(server.env)
            )
            # What the server prints goes where the log goes. Not sys.stderr, which may be a stand-in without a file.
            async with stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr) as streams:
                yield streams
            return
        guard = _guard_of(server.url) if server.trusted else self._guard
        self._transport = _HttpTransport(guard, self._limits.response_bytes)
        client = httpx2.AsyncClient(
            transport=self._transport,
            headers={**server.headers, "accept-encoding": "identity", "user-agent": "Codeyard-MCP/1.0"},
            timeout=httpx2.Timeout(30.0, connect=5.0, read=300.0),
            trust_env=False,
        )
        async with client, streamable_http_client(server.url, http_client=client) as streams:
            yield streams

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._on_tools_changed()


class _HttpTransport(GuardedTransport):
    """The guarded transport with the limits of an MCP server."""

    def __init__(self, guard: AddressGuard, response_bytes: int) -> None:
        super().__init__(guard)
        self._response_bytes = response_bytes
        self.session_lost = False
        """Whether the server has answered that it does not know the session."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; see GuardedTransport.handle_async_request."""
        response = await super().handle_async_request(request)
        if response.status_code in (400, 404) and _SESSION_HEADER in request.headers:
            self.session_lost = True
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("The server compressed an answer although it was asked not to")
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Bounded(response.stream, self._response_bytes)
        return response


class _Bounded(httpx2.AsyncByteStream):
    """A body that fails when it is too large."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise httpx2.ReadError(f"The answer is larger than {self._limit} bytes")
            yield piece

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()


async def _agree(session: ClientSession) -> None:
    """Agree on the protocol: by the handshake that every server knew until 2026, else by asking what it speaks."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code == mcp_types.CONNECTION_CLOSED:
            raise
        await session.discover()


def _guard_of(url: str) -> AddressGuard:
    """Return a guard that admits the address of this URL, wherever it is, and the public ones."""
    parsed = httpx2.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    return AddressGuard([f"{parsed.raw_host.decode('ascii')}:{port}"])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _reason(error: BaseException | None) -> str:
    """Return what a failure comes down to, for the log."""
    return "" if error is None else "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(error))[:_MAX_ERROR]


def _unreachable(server: McpServer, failure: BaseException | None) -> str:
    """Return the text for a server without a connection. Only a refused address is told: it is the user's to mend."""
    for leaf in () if failure is None else _leaves(failure):
        if isinstance(leaf.__cause__, AddressRefusedError):
            return f"The MCP server {server.name} cannot be reached: {leaf.__cause__}"
    return f"The MCP server {server.name} cannot be reached"


def _explain(server: McpServer, error: MCPError, broken: bool) -> str:
    if error.code == mcp_types.REQUEST_TIMEOUT:
        return f"The MCP server {server.name} did not answer in time"
    if broken:
        text = f"The MCP server {server.name} broke off ({error.message}); whether the call took effect is not known"
        return cut(text, _MAX_ERROR)
    return cut(f"The MCP server {server.name} refused the call: {error.message}", _MAX_ERROR)
