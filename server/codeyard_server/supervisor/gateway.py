"""Envoy, the only part of a yard that listens on TCP: its configuration, its readiness, its drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pathlib
import shutil
import socket

from codeyard_gateway.render import envoy_command, load_image, write_gateway
from codeyard_gateway.settings import GatewaySettings

from codeyard_server.settings import Settings, split_address
from codeyard_server.supervisor import errors
from codeyard_server.supervisor.layout import Layout
from codeyard_server.supervisor.processes import Program

DRAIN_SECONDS = 1
"""How long a stopping gateway lets clients see that their connections close."""


def free_port(host: str, port: int) -> int:
    """Check that nothing listens on this address yet, and return the port; 0 becomes one the system has free.

    Asked before anything is started: Envoy comes last and would only fail then.

    Raises:
        PortTaken: it is taken, or this user or machine may not have it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # A port in TIME_WAIT may be bound, so only listening tells whether somebody else does.
            probe.listen(1)
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: "something else listens there",
                errno.EACCES: "only root may listen there",
                errno.EADDRNOTAVAIL: "this machine has no such address",
            }
            reason = reasons.get(error.errno or 0, error.strerror)
            raise errors.PortTaken(f"{host}:{port} cannot be used: {reason}; choose another with --port") from error
        return int(probe.getsockname()[1])


def gateway_settings(layout: Layout, settings: Settings, processes: int) -> GatewaySettings:
    """Return the gateway's settings for this yard.

    Raises:
        BadSettings: a value that Envoy would refuse.
    """
    host, port = split_address(settings.listen)
    try:
        return GatewaySettings(
            server_sockets=tuple(str(layout.server_socket(number)) for number in range(processes)),
            edge_sockets=tuple(str(layout.edge_socket(number)) for number in range(processes)),
            admin_socket=str(layout.envoy_socket),
            listen_address=host,
            port=port,
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.cors_allowed_origins,
        )
    except ValueError as error:
        raise errors.BadSettings(str(error)) from error


def write_config(layout: Layout, settings: GatewaySettings) -> pathlib.Path:
    """Compile the gateway's configuration into the yard's folder and return the main file."""
    folder = layout.run / "gateway"
    shutil.rmtree(folder, ignore_errors=True)
    return write_gateway(settings, load_image(), folder)


def envoy_program(layout: Layout, settings: GatewaySettings, config: pathlib.Path) -> Program:
    """Return how to run Envoy on a written configuration."""
    return Program(
        name="envoy",
        command=envoy_command(settings, config, drain_seconds=DRAIN_SECONDS),
        environment={"PATH": os.defpath},
        is_ready=lambda: _is_live(layout.envoy_socket),
        folder=pathlib.Path("/"),
        grace_seconds=2.0,
    )


async def drain(layout: Layout) -> None:
    """Tell Envoy to take no new connections and to close idle ones, and give its clients a moment to notice."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await _ask(layout.envoy_socket, "POST", "/drain_listeners?graceful&skip_exit")
        await asyncio.sleep(DRAIN_SECONDS / 2)


async def _is_live(admin: pathlib.Path) -> bool:
    return await _ask(admin, "GET", "/ready") == 200


async def _ask(admin: pathlib.Path, method: str, path: str) -> int:
    """Send one request to Envoy's administration and return the status. Raises OSError when it does not listen."""
    reader, writer = await asyncio.open_unix_connection(admin)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
        )
        await writer.drain()
        words = (await reader.readline()).split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
