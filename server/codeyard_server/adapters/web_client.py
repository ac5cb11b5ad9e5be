"""Fetches web addresses for tools: only public ones, within limits of time and size.

Every hop is a connection of its own to an address that was checked (:mod:`codeyard_server.adapters.outbound`).
Redirects are followed by hand, so that the check happens again; cookies, proxies of the environment and credentials in
addresses are not used. Bodies are decompressed piece by piece and reading stops at the limit, so a small answer cannot
grow large.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from codeyard_server.adapters.outbound import AddressGuard, AddressRefusedError
from codeyard_server.capabilities.ports import ToolError, WebDocument

USER_AGENT = "Codeyard-WebFetch/1.0"
_MAX_URL = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEXT_TYPES = frozenset(
    {
        "application/json",
        "application/xml",
        "application/javascript",
        "application/ecmascript",
        "application/x-javascript",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/sql",
        "application/graphql",
        "application/x-sh",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "image/svg+xml",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class WebLimits:
    """Limits of one fetch. Times are seconds."""

    connect_seconds: float = 5.0
    """To resolve, connect and shake hands, for each hop."""
    first_byte_seconds: float = 1.0
    """From the request to the complete head of the answer, for each hop."""
    body_seconds: float = 30.0
    """To read the body; what has come by then is kept."""
    body_bytes: int = 2 * 1024 * 1024
    """How much of the decompressed body is read."""
    redirects: int = 5


class WebClient:
    """Implements WebFetcher. Holds no connection between calls.

    Args:
        guard: decides which addresses may be dialled.
        limits: of every fetch.
    """

    def __init__(self, guard: AddressGuard, limits: WebLimits | None = None) -> None:
        self._guard = guard
        self._limits = limits or WebLimits()

    async def fetch(self, url: str, *, method: Literal["GET", "HEAD"]) -> WebDocument:
        """Fetch one address; see WebFetcher.fetch."""
        target = _parse(url)
        for _ in range(self._limits.redirects + 1):
            answer = await self._hop(target, method)
            if isinstance(answer, WebDocument):
                return answer
            target = answer
        raise ToolError(f"More than {self._limits.redirects} redirects")

    async def _hop(self, url: yarl.URL, method: str) -> WebDocument | yarl.URL:
        """Send one request; return the document, or the address it redirects to."""
        addresses = await self._addresses(url)
        async with self._session(addresses) as session, await self._request(session, url, method) as response:
            location = response.headers.get("Location")
            if response.status in _REDIRECTS and location:
                return _parse(location, base=url)
            return await self._document(response, method)

    async def _addresses(self, url: yarl.URL) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                return await self._guard.addresses(url.raw_host or "", url.port or 0)
        except AddressRefusedError as error:
            raise ToolError(str(error)) from error
        except TimeoutError as error:
            raise ToolError(f"The host {url.host} cannot be resolved in time") from error

    def _session(self, addresses: Sequence[str]) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_request_sent)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Pinned(addresses),
                socket_factory=_pinned_socket(addresses),
                use_dns_cache=False,
                force_close=True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The limits below are kept by deadlines of our own.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "text/html, text/markdown, text/plain, */*;q=0.8",
                "Accept-Encoding": "gzip, deflate",
            },
            trust_env=False,
            trace_configs=[tracing],
        )

    async def _request(self, session: aiohttp.ClientSession, url: yarl.URL, method: str) -> aiohttp.ClientResponse:
        """Return the response once its head is complete."""
        sent = False
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect_seconds) as deadline:

                def on_sent() -> None:
                    nonlocal sent
                    sent = True
                    deadline.reschedule(loop.time() + self._limits.first_byte_seconds)

                return await session.request(method, url, allow_redirects=False, trace_request_ctx=on_sent)
        except TimeoutError as error:
            what = "answer" if sent else "accept a connection"
            raise ToolError(f"The host {url.host} did not {what} in time") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ToolError(f"The host {url.host} has no valid TLS certificate") from error
        except aiohttp.ClientConnectorError as error:
            raise ToolError(f"The host {url.host} cannot be reached") from error
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise ToolError(f"The host {url.host} gave no valid HTTP answer") from error

    async def _document(self, response: aiohttp.ClientResponse, method: str) -> WebDocument:
        body: bytes | None = None
        truncated = False
        if method != "HEAD" and is_text(response.headers.get("Content-Type")):
            body, truncated = await self._read(response.content)
            if b"\0" in body[:8192] and not _is_utf16(body):
                body, truncated = None, False
        size = response.content_length
        if body is not None and "Content-Encoding" in response.headers:
            size = None
        if size is None and body is not None and not truncated:
            size = len(body)
        disposition = response.content_disposition
        return WebDocument(
            url=str(response.url),
            status_code=response.status,
            content_type=_clean(response.headers.get("Content-Type")),
            size_bytes=size,
            last_modified=_clean(response.headers.get("Last-Modified")),
            filename=_clean((disposition.filename if disposition else None) or response.url.name or None),
            body=body,
            truncated=truncated,
        )

    async def _read(self, content: aiohttp.StreamReader) -> tuple[bytes, bool]:
        """Return the body's beginning, and whether more was to come."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for piece in content.iter_any():
                    body += piece
                    if len(body) > self._limits.body_bytes:
                        return bytes(body[: self._limits.body_bytes]), True
        except (TimeoutError, aiohttp.ClientError, OSError):
            return bytes(body), True
        return bytes(body), False


def is_text(content_type: str | None) -> bool:
    """Whether content of this type is worth reading as text; one without a type is, until it turns out not to be."""
    if content_type is None:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return (
        media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml", "+yaml"))
    )


def _clean(header: str | None) -> str | None:
    """Return a header without the surrogates that stand for its invalid bytes."""
    return None if header is None else header.encode(errors="replace").decode()


def _is_utf16(body: bytes) -> bool:
    return body.startswith((b"\xff\xfe", b"\xfe\xff"))


def _parse(text: str, base: yarl.URL | None = None) -> yarl.URL:
    """Return the address to fetch, resolved against base.

    Raises:
        ToolError: it cannot be fetched, whatever the host.
    """
    if len(text) > _MAX_URL:
        raise ToolError(f"The URL is longer than {_MAX_URL} characters")
    try:
        url = yarl.URL(text) if base is None else base.join(yarl.URL(text))
        port = url.port
    except ValueError as error:
        raise ToolError("The URL is not valid") from error
    if url.scheme not in ("http", "https"):
        raise ToolError("Only http and https URLs can be fetched")
    if not url.raw_host or not port:
        raise ToolError("The URL names no host")
    if url.raw_user is not None or url.raw_password is not None:
        raise ToolError("A URL with a user name or password cannot be fetched")
    return url.with_fragment(None)


async def _request_sent(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    context.trace_request_ctx()


class _Pinned(AbstractResolver):
    """Answers every question with the addresses that were checked."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def _pinned_socket(addresses: Sequence[str]) -> aiohttp.SocketFactoryType:
    """Return the maker of sockets that sees what is about to be dialled, and refuses what was not checked."""

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        if sockaddr[0] not in addresses:
            raise OSError("refusing to dial an address that was not checked")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make
