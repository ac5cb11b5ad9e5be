"""Dialling addresses that somebody else chose: a tool call, a user's MCP server, a user's model endpoint.

Such an address must not reach what only this machine or its network can reach. A host name proves nothing: it can
resolve to a private address, and to another one a second later. So the name is resolved here, every address of the
answer is checked, and the connection goes to exactly an address that passed (:class:`AddressGuard`).

:class:`GuardedTransport` does this below ``httpx2``, which the MCP and model SDKs take as their HTTP client; the web
client does it below aiohttp.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpx2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# What the address registries of IANA reserve. Python's own flags follow the registry of its patch release; these
# networks must be refused whatever that is.
_REFUSED_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata service of the clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# Only 2000::/3 is global unicast (RFC 4291 §2.4). That leaves out the loopback, mapped and compatible forms of IPv4,
# NAT64 (64:ff9b::/96), unique local and link-local addresses; what remains to refuse lies inside it.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo, which embeds IPv4
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds IPv4
        "3fff::/20",  # documentation
    )
)
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_MAX_NAME = 253
# A host whose last label is a number is an IPv4 address to resolvers, in forms (decimal, octal, hexadecimal, short)
# that no one needs; the same rule as in the URL standard.
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$")


class AddressRefusedError(Exception):
    """The host must not be dialled, or is not one. The text may be shown: it names nothing the caller did not give."""


def is_public(address: Address) -> bool:
    """Whether an address is global unicast: one that the whole internet reaches."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _REFUSED_IPV4)
    return address in _GLOBAL_IPV6 and address.is_global and not any(address in network for network in _REFUSED_IPV6)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pattern:
    """One entry of the allow-list. ``port`` None means every port."""

    host: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> _Pattern:
        host, colon, port = text.strip().lower().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not (port == "*" or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
            raise ValueError(f"{text!r} is not of the form host:port")
        try:
            network = ipaddress.ip_network(host)
        except ValueError as error:
            if not re.fullmatch(r"(?:\*\.)?[a-z0-9_][a-z0-9_.-]*", host):
                raise ValueError(f"{text!r} is not of the form host:port") from error
            network = None
        return cls(host, network, None if port == "*" else int(port))

    def admits_name(self, host: str, port: int) -> bool:
        if self.network is not None or self.port not in (None, port):
            return False
        host = host.removesuffix(".")
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def admits_address(self, address: Address, port: int) -> bool:
        return self.network is not None and self.port in (None, port) and address in self.network


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host name, in the order of preference of the system's resolver.

    Raises:
        OSError: the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class AddressGuard:
    """Decides which addresses may be dialled.

    Args:
        allowed: the administrator's exceptions, each ``host:port``: a name (``models.lan:11434``, ``*.lan:*``; whatever
            it resolves to) or an address or network (``127.0.0.1:8000``, ``10.1.0.0/16:*``, ``[::1]:8080``).
        resolve: turns a name into addresses; the system's resolver by default.

    Raises:
        ValueError: an exception is not of this form.
    """

    def __init__(self, allowed: Iterable[str] = (), *, resolve: Resolve = system_resolve) -> None:
        self._allowed = tuple(_Pattern.parse(text) for text in allowed)
        self._resolve = resolve

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses of host that may be dialled on this port, most preferred first; at least one.

        Raises:
            AddressRefusedError: it is not a host name or a plain address, has no address, or none that may be dialled.
        """
        host = host.lower()
        literal = _literal(host)
        if literal is not None:
            found: Sequence[str] = [str(literal)]
        else:
            try:
                found = await self._resolve(host, port)
            except (OSError, UnicodeError) as error:
                raise AddressRefusedError(f"The host {host} cannot be resolved") from error
        by_name = literal is None and any(pattern.admits_name(host, port) for pattern in self._allowed)
        admitted = tuple(address for address in found if by_name or self._admits(address, port))
        if not admitted:
            raise AddressRefusedError(f"The host {host} is not on the public internet")
        return admitted

    def _admits(self, text: str, port: int) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return is_public(address) or any(pattern.admits_address(address, port) for pattern in self._allowed)


def _literal(host: str) -> Address | None:
    """Return the address that host is, or None when it is a name.

    Raises:
        AddressRefusedError: it is neither, or an address in a form that hides what it is.
    """
    refused = AddressRefusedError("The host is neither a name nor an address in its usual form")
    if ":" in host or _ENDS_IN_NUMBER.search(host):
        try:
            address = ipaddress.ip_address(host)
        except ValueError as error:
            raise refused from error
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            raise refused
        return address
    if len(host) > _MAX_NAME or not _NAME.fullmatch(host):
        raise refused
    return None


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """An httpx2 transport that dials only what the guard admits; for clients that talk to one origin.

    The connection pool below is keyed by address, not by name, which is why two TLS hosts must not share an instance.
    Give the client ``trust_env=False``, so that no proxy of the environment dials in its place.
    """

    def __init__(self, guard: AddressGuard) -> None:
        super().__init__(trust_env=False)
        self._guard = guard

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request to the first admitted address that takes a connection.

        Raises:
            httpx2.UnsupportedProtocol: the scheme is neither http nor https.
            httpx2.ConnectError: the address is refused, or none of the host's addresses can be reached.
        """
        url = request.url
        if url.scheme not in ("http", "https"):
            raise httpx2.UnsupportedProtocol("Only http and https are allowed")
        host = url.raw_host.decode("ascii")
        try:
            addresses = await self._guard.addresses(host, url.port or (443 if url.scheme == "https" else 80))
        except AddressRefusedError as error:
            raise httpx2.ConnectError(str(error)) from error
        # The Host header was set when the request was built; the certificate is checked against the name.
        extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            try:
                return await self._send(request, address, extensions)
            except httpx2.ConnectError:
                continue
        return await self._send(request, addresses[-1], extensions)

    async def _send(self, request: httpx2.Request, address: str, extensions: dict[str, object]) -> httpx2.Response:
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )
        return await super().handle_async_request(pinned)
