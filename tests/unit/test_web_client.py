"""Fetching web addresses, from a real server on the loopback that the allow-list admits."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.adapters.web_client import WebClient, WebLimits, _pinned_socket, is_text
from codeyard_server.capabilities.ports import ToolError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY_LIMIT = 2 * 1024 * 1024


class Site:
    """A web server with one handler, on any address of the loopback."""

    def __init__(self, address: str = "127.0.0.1", port: int | None = None) -> None:
        self.handler: Handler | None = None
        self.requests: list[web.Request] = []
        self.over = asyncio.Event()
        """Set at the end of the test: handlers that would never end wait for it."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self.server = TestServer(application, host=address, port=port)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        assert self.handler is not None
        return await self.handler(request)

    @property
    def port(self) -> int:
        """Its port."""
        assert self.server.port is not None
        return self.server.port

    def url(self, path: str = "/") -> str:
        """An address of this server."""
        return f"http://{self.server.host}:{self.port}{path}"

    def answers(self, text: str, content_type: str = "text/plain", **headers: str) -> None:
        """Answer every request with this text."""

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(text=text, content_type=content_type, headers=headers)

        self.handler = handler

    def redirects(self, location: str, status: int = 302) -> None:
        """Redirect every request but that of /end."""

        async def handler(request: web.Request) -> web.Response:
            if request.path == "/end":
                return web.Response(text="arrived")
            return web.Response(status=status, headers={"Location": location})

        self.handler = handler


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A running server."""
    made = Site()
    await made.server.start_server()
    yield made
    made.over.set()
    await made.server.close()


def client(site: Site, **limits: float) -> WebClient:
    """A client that may reach the server, with short limits."""
    return WebClient(AddressGuard([f"127.0.0.1:{site.port}"]), WebLimits(**limits))  # type: ignore[arg-type] # whole numbers


async def test_fetch_returns_what_the_server_sent(site: Site) -> None:
    """Status, type, size, date and body come back; the request names the client and carries no cookie."""
    site.answers("hello", **{"Last-Modified": "Tue, 25 Nov 2025 10:00:00 GMT"})
    document = await client(site).fetch(site.url("/a/notes.txt#part"), method="GET")
    assert (document.status_code, document.body, document.truncated, document.size_bytes) == (200, b"hello", False, 5)
    assert document.content_type == "text/plain; charset=utf-8"
    assert document.last_modified == "Tue, 25 Nov 2025 10:00:00 GMT"
    assert document.filename == "notes.txt"
    assert document.url == site.url("/a/notes.txt")
    (request,) = site.requests
    assert request.headers["User-Agent"] == "Codeyard-WebFetch/1.0"
    assert "Cookie" not in request.headers


async def test_fetch_returns_an_error_status_as_a_document(site: Site) -> None:
    """A page that says 404 is an answer, not a failure."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="gone")

    site.handler = handler
    document = await client(site).fetch(site.url(), method="GET")
    assert (document.status_code, document.body) == (404, b"gone")


async def test_fetch_reads_no_body_when_the_method_is_head(site: Site) -> None:
    """HEAD gives what the headers say."""
    site.answers("hello")
    document = await client(site).fetch(site.url(), method="HEAD")
    assert (document.body, document.size_bytes) == (None, 5)
    assert [request.method for request in site.requests] == ["HEAD"]


async def test_fetch_reads_no_body_when_the_type_is_binary(site: Site) -> None:
    """Binary content gives its name and size only."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(
            body=b"PK" * 50,
            content_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="release.zip"'},
        )

    site.handler = handler
    document = await client(site).fetch(site.url("/download"), method="GET")
    assert (document.body, document.size_bytes, document.filename) == (None, 100, "release.zip")


async def test_fetch_drops_the_body_when_text_turns_out_to_be_binary(site: Site) -> None:
    """A NUL among the first bytes gives a false text type away."""
    site.answers("MZ\0\0 program")
    document = await client(site).fetch(site.url(), method="GET")
    assert document.body is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://017700000001:{port}/",
        "http://0x7f000001:{port}/",
        "http://0x7f.0.0.1:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST.:{port}/",
        "http://0.0.0.0:{port}/",
        "http://0:{port}/",
        "http://[::]:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[::127.0.0.1]:{port}/",
        "http://[64:ff9b::127.0.0.1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://127。0。0。1:{port}/",
        "http://%31%32%37.0.0.1:{port}/",
        "http://127.0.0.1%00.example.com:{port}/",
        "http://1.1.1.1@127.0.0.1:{port}/",
        "http://user:secret@example.com:{port}/",
        "//127.0.0.1:{port}/",
        "/relative",
        "",
        "http://",
        "http:///path",
        "http://example.com:0/",
        "http://example.com:99999/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/_x",
        "unix:///run/x.sock",
        "data:text/plain,hello",
        "javascript:alert(1)",
    ],
)
async def test_fetch_refuses_a_url_that_is_not_of_the_public_web(site: Site, url: str) -> None:
    """Whatever form hides the loopback, or another scheme: the tool says no, and nothing is sent."""
    site.answers("secret")
    with pytest.raises(ToolError):
        await WebClient(AddressGuard()).fetch(url.format(port=site.port), method="GET")
    assert site.requests == []


async def test_fetch_refuses_a_name_when_it_resolves_to_a_private_address(site: Site) -> None:
    """A public looking name that leads inside is refused."""
    site.answers("secret")

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with pytest.raises(ToolError, match="not on the public internet"):
        await WebClient(AddressGuard(resolve=resolve)).fetch(f"http://inside.example.com:{site.port}/", method="GET")
    assert site.requests == []


class Rebinding:
    """A resolver whose answer changes from one question to the next."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return [self.answers.pop(0)]


async def test_fetch_connects_to_the_checked_address_when_the_name_is_rebound(site: Site) -> None:
    """A name is resolved once; that it leads elsewhere a moment later changes nothing."""
    inside = Site("127.0.0.2", site.port)
    await inside.server.start_server()
    site.answers("outside")
    inside.answers("inside")
    resolve = Rebinding("127.0.0.1", "127.0.0.2", "127.0.0.2")
    guard = AddressGuard([f"127.0.0.1:{site.port}"], resolve=resolve)
    document = await WebClient(guard).fetch(f"http://rebind.example.com:{site.port}/", method="GET")
    await inside.server.close()
    assert document.body == b"outside"
    assert inside.requests == []
    assert len(resolve.answers) == 2


async def test_fetch_checks_again_when_a_redirect_leads_to_a_rebound_name(site: Site) -> None:
    """Each hop is checked: the second answer of the resolver is refused."""
    site.redirects("/end")
    guard = AddressGuard([f"127.0.0.1:{site.port}"], resolve=Rebinding("127.0.0.1", "127.0.0.2"))
    with pytest.raises(ToolError, match="not on the public internet"):
        await WebClient(guard).fetch(f"http://rebind.example.com:{site.port}/", method="GET")
    assert [request.path for request in site.requests] == ["/"]


def test_socket_is_not_made_for_an_address_that_was_not_checked() -> None:
    """The last line of defence sees the very address that is dialled."""
    make = _pinned_socket(["8.8.8.8"])
    with pytest.raises(OSError, match="not checked"):
        make((2, 1, 6, "", ("127.0.0.1", 80)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_fetch_follows_a_redirect(site: Site, status: int) -> None:
    """The document is that of the last address, and says so."""
    site.redirects("/end", status)
    document = await client(site).fetch(site.url("/start"), method="GET")
    assert (document.body, document.url) == (b"arrived", site.url("/end"))


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://127.0.0.2/",
        "file:///etc/passwd",
        "http://user:secret@1.1.1.1/",
        "http://[bad",
    ],
)
async def test_fetch_refuses_a_redirect_to_an_address_that_may_not_be_dialled(site: Site, location: str) -> None:
    """A public page cannot send the tool to the metadata service or to the loopback."""
    site.redirects(location)
    with pytest.raises(ToolError):
        await client(site).fetch(site.url("/start"), method="GET")
    assert len(site.requests) == 1


async def test_fetch_gives_up_when_redirects_do_not_end(site: Site) -> None:
    """Six requests are sent for five redirects, then the tool says so."""
    site.redirects("/again")
    with pytest.raises(ToolError, match="More than 5 redirects"):
        await client(site).fetch(site.url("/start"), method="GET")
    assert len(site.requests) == 6


async def test_fetch_reads_a_bounded_part_when_a_small_body_expands(site: Site) -> None:
    """256 MiB in a quarter of a megabyte of gzip cost no more than the limit allows."""
    member = gzip.compress(b" " * (16 * 1024 * 1024))

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=member * 16, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})

    site.handler = handler
    tracemalloc.start()
    try:
        document = await client(site).fetch(site.url(), method="GET")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert document.body == b" " * BODY_LIMIT
    assert document.truncated
    assert document.size_bytes is None
    assert peak < 16 * 1024 * 1024


async def test_fetch_reads_a_bounded_part_when_the_body_does_not_end(site: Site) -> None:
    """An endless body stops at the limit of bytes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while not site.over.is_set():
            await response.write(b"x" * 65536)
        return response

    site.handler = handler
    document = await client(site).fetch(site.url(), method="GET")
    assert document.body == b"x" * BODY_LIMIT
    assert document.truncated


async def test_fetch_keeps_what_has_come_when_the_body_stalls(site: Site) -> None:
    """At the time limit the partial text is kept and marked."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"the beginning")
        await site.over.wait()
        return response

    site.handler = handler
    document = await client(site, body_seconds=1.0).fetch(site.url(), method="GET")
    assert (document.body, document.truncated) == (b"the beginning", True)


async def test_fetch_keeps_what_has_come_when_the_connection_breaks(site: Site) -> None:
    """A body that ends early is kept and marked."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    site.handler = handler
    document = await client(site).fetch(site.url(), method="GET")
    assert (document.body, document.truncated) == (b"half", True)


async def test_fetch_fails_when_the_first_byte_does_not_come(site: Site) -> None:
    """A server that accepts the request and is silent is given up."""

    async def handler(_request: web.Request) -> web.Response:
        await site.over.wait()
        return web.Response()

    site.handler = handler
    with pytest.raises(ToolError, match="did not answer in time"):
        await client(site, first_byte_seconds=0.1).fetch(site.url(), method="GET")


async def test_fetch_fails_when_the_head_comes_byte_by_byte() -> None:
    """The limit holds for the complete head, so that dripping headers do not stretch it."""
    over = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not over.is_set() and not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    fetcher = WebClient(AddressGuard([f"127.0.0.1:{port}"]), WebLimits(first_byte_seconds=0.1))
    with pytest.raises(ToolError):
        await fetcher.fetch(f"http://127.0.0.1:{port}/", method="GET")
    over.set()
    server.close()


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 999999 what\r\n\r\n", b"\xff" * 100])
async def test_fetch_fails_when_the_server_does_not_speak_http(reply: bytes) -> None:
    """Another protocol's greeting is not passed on."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ToolError, match="gave no valid HTTP answer"):
        await WebClient(AddressGuard([f"127.0.0.1:{port}"])).fetch(f"http://127.0.0.1:{port}/", method="GET")
    server.close()


async def test_fetch_fails_when_nobody_listens(site: Site) -> None:
    """A closed port is a failure the model can read."""
    fetcher = client(site)
    url = site.url()
    await site.server.close()
    with pytest.raises(ToolError, match="cannot be reached"):
        await fetcher.fetch(url, method="GET")


async def test_fetch_fails_when_the_name_is_not_resolved_in_time() -> None:
    """A resolver that hangs is given up like a server that does."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    fetcher = WebClient(AddressGuard(resolve=resolve), WebLimits(connect_seconds=0.05))
    with pytest.raises(ToolError, match="cannot be resolved in time"):
        await fetcher.fetch("http://slow.example.com/", method="GET")


async def test_fetch_ignores_the_proxies_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would dial in our place, without our check."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    site.answers("direct")
    document = await client(site).fetch(site.url(), method="GET")
    assert document.body == b"direct"


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/html; charset=utf-8", True),
        ("TEXT/CSV", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/atom+xml", True),
        (None, True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/pdf", False),
        ("", False),
    ],
)
def test_type_is_text_when_it_is_worth_reading(content_type: str | None, text: bool) -> None:
    """Known text types are read, everything else is not."""
    assert is_text(content_type) is text
