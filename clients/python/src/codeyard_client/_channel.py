"""From a URL to gRPC channels, asynchronous and blocking."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from collections.abc import AsyncGenerator, Generator
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio

T = TypeVar("T")

AsyncStream: TypeAlias = AsyncGenerator[T, None]
"""What an asynchronous client iterates over; ``aclose`` ends it early."""
SyncStream: TypeAlias = Generator[T, None, None]
"""What a blocking client iterates over; ``close`` ends it early."""

AsyncChannel: TypeAlias = grpc.aio.Channel
SyncChannel: TypeAlias = grpc.Channel

_MAX_MESSAGE_BYTES = 64 << 20
# The library waits 1 s, then up to 120 s, before it dials again: too long for a yard that restarts in two.
_MIN_REDIAL_MS, _MAX_REDIAL_MS = 100, 2000
# A stream that says nothing notices within 40 s that the other side is gone without a word.
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 30_000, 10_000

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a yard is: ``target`` is ``host:port``."""

    url: str
    target: str
    encrypted: bool
    loopback: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``http://host:port`` or ``https://host:port``.

        Raises:
            ValueError: it is anything else.
        """
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            port = -1
        bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme not in ("http", "https") or not parts.hostname or port < 0 or not bare:
            raise ValueError(f"not the URL of a yard: {url!r}; it looks like http://127.0.0.1:8080")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(url, f"{host}:{port}", parts.scheme == "https", _is_loopback(parts.hostname))

    def options(self) -> list[tuple[str, int]]:
        """Return what both kinds of channels are opened with."""
        return [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", _MIN_REDIAL_MS),
            ("grpc.min_reconnect_backoff_ms", _MIN_REDIAL_MS),
            ("grpc.max_reconnect_backoff_ms", _MAX_REDIAL_MS),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            # A client of its own: not the connections, and not the redial pauses, of another one in this process.
            ("grpc.use_local_subchannel_pool", 1),
            # A proxy of the environment has no way to this machine's own loopback.
            ("grpc.enable_http_proxy", int(not self.loopback)),
        ]


def open_async_channel(address: Address) -> AsyncChannel:
    """Open a channel of the running event loop; it dials at the first call."""
    if address.encrypted:
        return grpc.aio.secure_channel(address.target, grpc.ssl_channel_credentials(), address.options())
    return grpc.aio.insecure_channel(address.target, address.options())


def open_channel(address: Address) -> SyncChannel:
    """Open a blocking channel; it dials at the first call."""
    if address.encrypted:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), address.options())
    return grpc.insecure_channel(address.target, address.options())


async def close_async_channel(channel: AsyncChannel) -> None:
    """Close the channel and end its calls."""
    await channel.close(None)


def close_channel(channel: SyncChannel) -> None:
    """Close the channel and end its calls."""
    channel.close()


def check_token(token: str | None) -> str | None:
    """Return the token without surrounding white space, or None for none.

    Raises:
        ValueError: it cannot travel in a header. The message does not show it.
    """
    token = (token or "").strip()
    if token and not _TOKEN.fullmatch(token):
        raise ValueError("the token holds characters that no token has")
    return token or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
