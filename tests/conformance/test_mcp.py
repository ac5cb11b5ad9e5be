"""MCP servers, talked to for real: the reference server, and one with tools that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog.testing
from aiohttp import web
from aiohttp.test_utils import TestServer
from codeyard_server.adapters.mcp_client import McpConnections, McpLimits
from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.capabilities.ports import McpServer, McpTool, ToolError

from tests.mcp import HttpServer, http_server, stdio_server

LOCAL = AddressGuard(["127.0.0.1:*"])
_ATTEMPTS = 2000


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def connections(
    guard: AddressGuard = LOCAL, limits: McpLimits | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[McpConnections]:
    """The client, closed at the end."""
    client = McpConnections(guard, limits, clock)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def client() -> AsyncIterator[McpConnections]:
    """A client with the usual limits."""
    async with connections() as made:
        yield made


@pytest.fixture(scope="module")
def everything_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """The reference server over HTTP."""
    with http_server("everything", tmp_path_factory.mktemp("mcp")) as server:
        yield server


@pytest.fixture(scope="module")
def shared_odd_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """The server that misbehaves, over HTTP; a test may leave it dead."""
    with http_server("odd", tmp_path_factory.mktemp("odd")) as server:
        yield server


@pytest.fixture
def odd_http(shared_odd_http: HttpServer) -> HttpServer:
    """The same, alive."""
    shared_odd_http.revive()
    return shared_odd_http


@pytest.fixture(params=["stdio", "http"])
def everything(request: pytest.FixtureRequest) -> McpServer:
    """The reference server, over both transports."""
    if request.param == "stdio":
        return stdio_server("everything")
    http: HttpServer = request.getfixturevalue("everything_http")
    return http.server


@pytest.fixture(params=["stdio", "http"])
def odd(request: pytest.FixtureRequest) -> McpServer:
    """The server that misbehaves, over both transports."""
    if request.param == "stdio":
        return stdio_server("odd")
    http: HttpServer = request.getfixturevalue("odd_http")
    return http.server


async def tool(client: McpConnections, server: McpServer, name: str, *, read_only: bool | None = None) -> McpTool:
    """Return a tool of the server, as it is or with another hint."""
    found = next(tool for tool in await client.tools(server) if tool.name == name)
    return found if read_only is None else dataclasses.replace(found, read_only=read_only)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    for _ in range(_ATTEMPTS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition does not come to hold")


def children() -> set[int]:
    """Return the processes this one has started and that still run."""
    found: set[int] = set()
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):
            found.update(map(int, path.read_text().split()))
    return {pid for pid in found if _runs(pid)}


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    return False


async def test_tools_are_those_of_the_server(client: McpConnections, everything: McpServer) -> None:
    """Name, description, schema and hint come as the server gives them."""
    echo = await tool(client, everything, "echo")
    assert echo.description
    assert echo.parameters["type"] == "object"
    assert "message" in echo.parameters["properties"]
    assert echo.read_only
    assert not (await tool(client, everything, "simulate-research-query")).read_only


async def test_call_returns_text(client: McpConnections, everything: McpServer) -> None:
    """One text is the result."""
    assert await client.call(everything, await tool(client, everything, "echo"), {"message": "hé"}) == "Echo: hé"


async def test_call_returns_structured_content(client: McpConnections, everything: McpServer) -> None:
    """Structured content is the result as it is."""
    weather = await tool(client, everything, "get-structured-content")
    result = await client.call(everything, weather, {"location": "Chicago"})
    assert set(result) == {"temperature", "conditions", "humidity"}


async def test_call_describes_an_image(client: McpConnections, everything: McpServer) -> None:
    """An image is not passed on, only its type and size."""
    result = await client.call(everything, await tool(client, everything, "get-tiny-image"), {})
    image = next(block for block in result["content"] if block["type"] == "image")
    assert set(image) == {"type", "mime_type", "size_bytes"}
    assert image["mime_type"] == "image/png"
    assert image["size_bytes"] > 100


async def test_call_returns_links_to_resources(client: McpConnections, everything: McpServer) -> None:
    """Links keep their address and name."""
    result = await client.call(everything, await tool(client, everything, "get-resource-links"), {"count": 3})
    links = [block for block in result["content"] if block["type"] == "resource_link"]
    assert len(links) == 3
    assert all(link["uri"].startswith("demo://") and link["name"] for link in links)


async def test_call_fails_when_the_server_refuses_the_arguments(client: McpConnections, everything: McpServer) -> None:
    """The model reads what is wrong with them."""
    echo = await tool(client, everything, "echo")
    with pytest.raises(ToolError, match="message"):
        await client.call(everything, echo, {})
    assert await client.call(everything, echo, {"message": "still there"}) == "Echo: still there"


async def test_call_fails_when_there_is_no_such_tool(client: McpConnections, everything: McpServer) -> None:
    """A tool that has gone is an error the model can read."""
    with pytest.raises(ToolError, match="nope"):
        await client.call(everything, McpTool("nope", "", {"type": "object"}, read_only=False), {})


async def test_calls_of_one_server_run_side_by_side(client: McpConnections, everything: McpServer) -> None:
    """Twenty calls at once get each its own answer, over one connection."""
    add = await tool(client, everything, "get-sum")
    results = await asyncio.gather(*(client.call(everything, add, {"a": n, "b": n}) for n in range(20)))
    assert [result.rstrip(".").rsplit(" ", 1)[-1] for result in results] == [str(2 * n) for n in range(20)]


async def test_connection_is_kept_between_calls(client: McpConnections, odd: McpServer) -> None:
    """Opening costs a process or a handshake, so it happens once."""
    pid = await tool(client, odd, "pid")
    assert len({await client.call(odd, pid, {}) for _ in range(5)}) == 1


async def test_tools_are_kept_for_a_minute(odd_http: HttpServer) -> None:
    """A second turn within the minute does not ask the server again."""
    clock = Clock()
    async with connections(clock=clock) as client:
        before = odd_http.log().count("LISTED")
        for _ in range(3):
            await client.tools(odd_http.server)
        assert odd_http.log().count("LISTED") == before + 1
        clock.now += 61
        await client.tools(odd_http.server)
        assert odd_http.log().count("LISTED") == before + 2


async def test_tools_are_listed_once_when_many_turns_ask_at_the_same_time(
    client: McpConnections, odd_http: HttpServer
) -> None:
    """Those who come second wait for the first."""
    before = odd_http.log().count("LISTED")
    await asyncio.gather(*(client.tools(odd_http.server) for _ in range(10)))
    assert odd_http.log().count("LISTED") == before + 1


async def test_tools_are_listed_again_when_the_server_says_they_changed(client: McpConnections) -> None:
    """A notification ends the minute."""
    server = stdio_server("odd")
    before = len(await client.tools(server))
    await client.call(server, await tool(client, server, "grow"), {})
    for _ in range(_ATTEMPTS):
        if len(await client.tools(server)) > before:
            break
        await asyncio.sleep(0.01)
    assert len(await client.tools(server)) == before + 1


async def test_server_without_the_old_handshake_is_understood(client: McpConnections, tmp_path: pathlib.Path) -> None:
    """One that knows only the newer protocol, which has no handshake, is asked what it speaks."""
    with http_server("modern", tmp_path) as http:
        assert (await client.call(http.server, await tool(client, http.server, "pid"), {})).isdigit()


async def test_tools_leave_out_one_with_a_schema_no_model_takes(client: McpConnections, odd: McpServer) -> None:
    """The others are offered."""
    names = {tool.name for tool in await client.tools(odd)}
    assert "huge" not in names
    assert "pid" in names


async def test_call_fails_when_the_server_crashes_in_the_middle(client: McpConnections) -> None:
    """The model is told that the outcome is unknown; the next call starts the server again."""
    server = stdio_server("odd")
    pid = await tool(client, server, "pid")
    before = await client.call(server, pid, {})
    with pytest.raises(ToolError, match="whether the call took effect is not known"):
        await client.call(server, await tool(client, server, "crash"), {})
    assert await client.call(server, pid, {}) != before


async def test_call_fails_when_an_http_server_crashes_in_the_middle(
    client: McpConnections, odd_http: HttpServer
) -> None:
    """Over HTTP it is the same, once somebody has started the server again."""
    pid = await tool(client, odd_http.server, "pid")
    crash = await tool(client, odd_http.server, "crash")
    before = odd_http.log().count("CALLED crash")
    with pytest.raises(ToolError):
        await client.call(odd_http.server, crash, {})
    assert odd_http.log().count("CALLED crash") == before + 1
    with pytest.raises(ToolError, match="cannot be reached"):
        await client.call(odd_http.server, pid, {})
    odd_http.start()
    assert (await client.call(odd_http.server, pid, {})).isdigit()


async def test_call_is_repeated_when_a_read_only_tool_breaks_off(
    client: McpConnections, capfd: pytest.CaptureFixture[str]
) -> None:
    """What only reads is tried once more, on a new connection, before the model hears of it."""
    server = stdio_server("odd")
    crash = await tool(client, server, "crash", read_only=True)
    with pytest.raises(ToolError, match="broke off"):
        await client.call(server, crash, {})
    assert capfd.readouterr().err.count("CALLED crash") == 2


async def test_call_works_when_the_server_ended_while_nobody_looked(client: McpConnections) -> None:
    """A process that died between two calls is replaced without a word, also for a tool that writes."""
    server = stdio_server("odd")
    pid = await tool(client, server, "pid", read_only=False)
    first = int(await client.call(server, pid, {}))
    with structlog.testing.capture_logs() as logs:
        os.kill(first, signal.SIGKILL)
        await until(lambda: any(entry["event"] == "mcp.server_gone" for entry in logs))
    assert int(await client.call(server, pid, {})) != first


@pytest.mark.parametrize("kind", ["everything", "odd"])
async def test_call_works_when_the_http_server_was_restarted(
    client: McpConnections, tmp_path: pathlib.Path, kind: str
) -> None:
    """A new server does not know the session; the call is sent again in a new one, also for a tool that writes."""
    with http_server("everything" if kind == "everything" else "odd", tmp_path) as http:
        name, arguments = ("get-sum", {"a": 1, "b": 2}) if kind == "everything" else ("pid", {})
        probe = await tool(client, http.server, name, read_only=False)
        await client.call(http.server, probe, arguments)
        http.kill()
        http.start()
        assert await client.call(http.server, probe, arguments)


async def test_call_fails_when_it_takes_too_long(odd: McpServer) -> None:
    """At the limit the model hears of it, and the connection still works."""
    async with connections(limits=McpLimits(call_seconds=2.0)) as client:
        pid = await tool(client, odd, "pid")
        before = await client.call(odd, pid, {})
        with pytest.raises(ToolError, match="did not answer in time"):
            await client.call(odd, await tool(client, odd, "hang"), {})
        assert await client.call(odd, pid, {}) == before


async def test_call_can_be_cancelled(client: McpConnections, odd: McpServer) -> None:
    """A cancelled turn does not wait for the tool, and leaves the connection usable."""
    hang, pid = await tool(client, odd, "hang"), await tool(client, odd, "pid")
    before = await client.call(odd, pid, {})
    call = asyncio.create_task(client.call(odd, hang, {}))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await client.call(odd, pid, {}) == before


async def test_call_fails_with_the_servers_words_when_it_reports_an_error(
    client: McpConnections, odd: McpServer
) -> None:
    """An error of the protocol is one the model can read."""
    with pytest.raises(ToolError, match="out of luck"):
        await client.call(odd, await tool(client, odd, "fail"), {})
    with pytest.raises(ToolError, match="breaks the protocol"):
        await client.call(odd, await tool(client, odd, "garble"), {})


async def test_result_is_cut_when_it_is_too_large(client: McpConnections, odd: McpServer) -> None:
    """200 kB are kept and marked."""
    result = await client.call(odd, await tool(client, odd, "text"), {"size": 600_000})
    assert (result["truncated"], result["size_bytes"], len(result["text"])) == (True, 600_000, 200_000)


async def test_call_fails_when_the_answer_is_larger_than_the_transport_takes(
    client: McpConnections, odd_http: HttpServer
) -> None:
    """An answer of 6 MB is not taken into memory; the next call works."""
    with pytest.raises(ToolError):
        await client.call(odd_http.server, await tool(client, odd_http.server, "text"), {"size": 6_000_000})
    assert (await client.call(odd_http.server, await tool(client, odd_http.server, "pid"), {})).isdigit()


async def test_schema_of_the_output_is_not_evaluated(client: McpConnections, odd: McpServer) -> None:
    """A pattern that takes for ever does not hold up the process."""
    result = await client.call(odd, await tool(client, odd, "evil"), {})
    assert result == {"value": "a" * 60 + "!"}


async def test_server_of_the_private_network_is_not_called() -> None:
    """Without the administrator's permission the loopback is refused, and the text says why."""
    seen: list[web.Request] = []

    def note(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    async with site(note) as server, connections(AddressGuard()) as client:
        with pytest.raises(ToolError, match="not on the public internet"):
            await client.tools(McpServer(key="a", name="a", url=str(server.make_url("/mcp"))))
    assert seen == []


async def test_server_the_administrator_named_is_called_wherever_it_is(odd_http: HttpServer) -> None:
    """His own server needs no further permission, and opens nothing else."""
    named = dataclasses.replace(odd_http.server, trusted=True)
    async with connections(AddressGuard()) as client:
        assert (await client.call(named, await tool(client, named, "pid"), {})).isdigit()
        with pytest.raises(ToolError, match="not on the public internet"):
            await client.tools(dataclasses.replace(odd_http.server, key="other"))


async def test_server_that_is_not_there_is_left_alone_for_a_while() -> None:
    """A failure is remembered, so that each turn does not wait for it again."""
    attempts: list[asyncio.StreamWriter] = []

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(writer)
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1")
    port = listener.sockets[0].getsockname()[1]
    server = McpServer(key="refusing", name="refusing", url=f"http://127.0.0.1:{port}/mcp")
    clock = Clock()
    async with connections(clock=clock) as client:
        for _ in range(3):
            with pytest.raises(ToolError, match="refusing cannot be reached"):
                await client.tools(server)
        assert len(attempts) == 1
        clock.now += 16
        with pytest.raises(ToolError):
            await client.tools(server)
        assert len(attempts) == 2
    listener.close()


async def test_server_that_does_not_answer_is_given_up() -> None:
    """A connection that is accepted and never served ends at the limit."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    listener = await asyncio.start_server(hold, "127.0.0.1")
    port = listener.sockets[0].getsockname()[1]
    async with connections(limits=McpLimits(open_seconds=0.2)) as client:
        with pytest.raises(ToolError, match="silent cannot be reached"):
            await client.tools(McpServer(key="silent", name="silent", url=f"http://127.0.0.1:{port}/mcp"))
    for writer in held:
        writer.close()
    listener.close()


@contextlib.asynccontextmanager
async def site(handler: Callable[[web.Request], web.Response]) -> AsyncIterator[TestServer]:
    """A web server that is no MCP server."""

    async def handle(request: web.Request) -> web.Response:
        return handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    server = TestServer(application, host="127.0.0.1")
    async with server:
        yield server


async def test_request_carries_the_headers_of_the_server_and_asks_for_no_compression() -> None:
    """Secret headers go where they belong; a compressed answer could grow without bound, so none is asked for."""
    seen: list[dict[str, str]] = []

    def refuse(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.Response(status=401)

    async with site(refuse) as server, connections() as client:
        headers = {"Authorization": "Bearer secret-word"}
        with pytest.raises(ToolError) as caught:
            await client.tools(McpServer(key="a", name="a", url=str(server.make_url("/mcp")), headers=headers))
    assert seen[0]["authorization"] == "Bearer secret-word"
    assert seen[0]["accept-encoding"] == "identity"
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(status=500, text="internals"),
        lambda: web.Response(text="<html>", content_type="text/html"),
        lambda: web.Response(text="{", content_type="application/json"),
        lambda: web.Response(text="[]", content_type="application/json"),
        lambda: web.Response(status=202),
        lambda: web.Response(
            body=b"\x1f\x8b", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
        ),
        lambda: web.Response(body=b" " * (5 << 20), content_type="application/json"),
        lambda: web.Response(text="data: {\n\n", content_type="text/event-stream"),
    ],
    ids=["500", "html", "broken", "array", "202", "gzip", "large", "events"],
)
async def test_server_that_does_not_speak_the_protocol_is_an_error(response: Callable[[], web.Response]) -> None:
    """Whatever a web server says instead, the tool says that it cannot be reached, and quotes nothing."""
    async with site(lambda _request: response()) as server, connections() as client:
        with pytest.raises(ToolError, match=r"^The MCP server a cannot be reached$"):
            await client.tools(McpServer(key="a", name="a", url=str(server.make_url("/mcp"))))


async def test_redirect_to_another_origin_is_not_followed() -> None:
    """Headers and arguments were meant for this server only."""
    inside: list[web.Request] = []

    def caught(request: web.Request) -> web.Response:
        inside.append(request)
        return web.Response()

    async with site(caught) as other:
        location = str(other.make_url("/mcp"))
        redirect = site(lambda _request: web.Response(status=307, headers={"Location": location}))
        async with redirect as server, connections() as client:
            with pytest.raises(ToolError):
                await client.tools(McpServer(key="a", name="a", url=str(server.make_url("/mcp"))))
    assert inside == []


async def test_command_that_does_not_exist_is_an_error(client: McpConnections) -> None:
    """A mistake in the administrator's file costs this server's tools and nothing else."""
    with pytest.raises(ToolError, match="gone cannot be reached"):
        await client.tools(McpServer(key="gone", name="gone", command="/no/such/program"))


async def test_command_sees_only_its_own_environment(client: McpConnections, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's secrets are not handed to the programs it starts."""
    monkeypatch.setenv("SECRETS_ENCRYPTION_KEY", "do-not-pass-on")
    server = stdio_server("everything", OWN_SETTING="for-me")
    result = await client.call(server, await tool(client, server, "get-env"), {})
    assert "for-me" in result
    assert "do-not-pass-on" not in result


async def test_close_ends_the_processes_that_were_started(client: McpConnections) -> None:
    """Nothing is left behind."""
    before = children()
    await client.tools(stdio_server("odd"))
    assert children() - before
    await client.aclose()
    assert children() - before == set()


async def test_connection_is_closed_when_nobody_needs_it() -> None:
    """An unused server is ended, and started again for the next call."""
    before = children()
    server = stdio_server("odd")
    async with connections(limits=McpLimits(idle_seconds=0.2)) as client:
        pid = await tool(client, server, "pid")
        first = await client.call(server, pid, {})
        await until(lambda: children() == before)
        assert await client.call(server, pid, {}) != first


async def test_connection_makes_room_when_there_are_too_many() -> None:
    """The one that was unused longest is closed for a new one."""
    before = children()
    async with connections(limits=McpLimits(connections=1)) as client:
        await client.tools(stdio_server("odd"))
        first = children() - before
        await client.tools(stdio_server("everything"))
        assert not first & children()
        assert len(children() - before) == 1
