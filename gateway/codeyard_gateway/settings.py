"""Settings of the gateway: everything about one installation that the compiled protos do not say."""

from __future__ import annotations

import dataclasses
import ipaddress
import pathlib

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclasses.dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One gateway. An endpoint is the absolute path of a unix socket, or ``host:port``; one list does not mix both.

    Raises ValueError for a value that Envoy would refuse, or that would open the gateway wider than it says.
    """

    server_sockets: tuple[str, ...]
    """Endpoints of the server processes (gRPC)."""
    edge_sockets: tuple[str, ...]
    """Endpoints of the WebSocket edges (HTTP/1.1)."""
    admin_socket: str
    """Unix socket of Envoy's administration, which must not be reachable from the network; or ``127.0.0.1:port``."""
    listen_address: str = "127.0.0.1"
    """IP address of the public port."""
    port: int = 8080
    """The public port; 0 lets the system choose (tests)."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names the gateway answers to besides the loopback names: without a port, ``*.example.com`` for a suffix,
    ``*`` for any (only behind a proxy that checks the name)."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browser pages that may call with credentials, such as ``https://app.example.com``."""
    trusted_proxies: int = 0
    """How many proxies in front append to X-Forwarded-For; 0 trusts the peer's address only."""
    max_json_bytes: int = 32 * 1024 * 1024
    """Largest JSON answer in bytes; larger ones become a 500."""
    max_memory_bytes: int = 2 * 1024 * 1024 * 1024
    """Memory of Envoy near which requests are refused with 503 until there is more again."""
    unary_timeout_seconds: int = 30
    """Deadline of a call that does not stream; the caller gets 504."""
    connections: int = 20000
    """Most connections, streams and waiting requests at a time."""
    health_check: bool = True
    """Whether dead servers are found by grpc.health.v1."""
    access_log: str | None = None
    """File for the access log, one JSON object a line, such as ``/dev/stdout``; None writes none."""
    concurrency: int = 2
    """Worker threads of Envoy. One thread transcodes about 100 MB of JSON a second and blocks while it does."""

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.listen_address)
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")
        for name, endpoints in (("server_sockets", self.server_sockets), ("edge_sockets", self.edge_sockets)):
            if not endpoints:
                raise ValueError(f"{name} is empty")
            if len({endpoint.startswith("/") for endpoint in endpoints}) > 1:
                raise ValueError(f"{name} mixes unix sockets and addresses")
        for endpoint in (*self.server_sockets, *self.edge_sockets, self.admin_socket):
            _check_endpoint(endpoint)
        for origin in self.allowed_origins:
            if not origin.startswith(("http://", "https://")) or "*" in origin or origin.endswith("/"):
                raise ValueError(f'allowed origin "{origin}" is not of the form https://host[:port]')
        for host in self.allowed_hosts:
            if "/" in host or not host.isascii() or ("*" in host and host != "*" and not host.startswith("*.")):
                raise ValueError(f'allowed host "{host}" is not a host name, *.suffix or *')
        if "*" in self.allowed_hosts and self.listen_address in ("127.0.0.1", "::1"):
            raise ValueError("any host on a loopback address would let web pages in by DNS rebinding; name the hosts")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host name that is answered, without duplicates."""
        address = ipaddress.ip_address(self.listen_address)
        own = () if address.is_unspecified else (f"[{address}]" if address.version == 6 else str(address),)
        return tuple(dict.fromkeys((*LOOPBACK_HOSTS, *own, *self.allowed_hosts)))


def _check_endpoint(endpoint: str) -> None:
    if endpoint.startswith("/"):
        # The kernel's sockaddr_un holds 108 bytes with the final NUL.
        if len(endpoint.encode()) > 107:
            raise ValueError(f"the path of a unix socket has at most 107 bytes: {endpoint}")
        return
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise ValueError(f'"{endpoint}" is neither an absolute path nor host:port')


def golden_settings() -> GatewaySettings:
    """Return the settings of the committed golden files: the defaults, with folders of a typical installation."""
    run = pathlib.PurePosixPath("/var/lib/codeyard/run")
    return GatewaySettings(
        server_sockets=tuple(str(run / f"server-{number}.sock") for number in range(2)),
        edge_sockets=tuple(str(run / f"edge-{number}.sock") for number in range(2)),
        admin_socket=str(run / "envoy.sock"),
    )
