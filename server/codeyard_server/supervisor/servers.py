"""The server processes of a yard: what each one is told, and when it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codeyard_server.settings import split_address
from codeyard_server.supervisor.layout import Layout
from codeyard_server.supervisor.processes import Program

SERVER_COMMAND = (sys.executable, "-P", "-m", "codeyard_server")
"""-P: the folder somebody starts a yard in is no place to import from."""

METRICS = "CODEYARD_METRICS_ADDRESS"

# How much longer than its own grace a server may take to close what it holds.
_CLOSING_SECONDS = 1.0
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


def server_program(
    layout: Layout, number: int, command: Sequence[str], overrides: Mapping[str, str], grace_seconds: float
) -> Program:
    """Return how to run one server process.

    Args:
        layout: the yard's folder; the sockets lie in it.
        number: which one, from 0.
        command: the program and its arguments.
        overrides: what all servers are told besides the supervisor's own environment.
        grace_seconds: how long a stopping server waits for running calls.
    """
    socket = str(layout.server_socket(number))
    own = {"CODEYARD_SOCKET": socket, "CODEYARD_EDGE_SOCKET": str(layout.edge_socket(number))}
    environment = {**os.environ, **overrides, **own}
    if metrics := environment.get(METRICS):
        environment[METRICS] = _later_port(metrics, number)
    return Program(
        name=f"server-{number}",
        command=command,
        environment=environment,
        is_ready=lambda: _serves(socket),
        grace_seconds=grace_seconds + _CLOSING_SECONDS,
    )


async def _serves(socket: str) -> bool:
    """Whether the server's health service says SERVING. A channel of its own: one that failed waits."""
    if not os.path.exists(socket):  # noqa: ASYNC240, PTH110 - one stat of a local file
        return False
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_CHANNEL_OPTIONS) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _later_port(address: str, number: int) -> str:
    host, port = split_address(address)
    return f"{f'[{host}]' if ':' in host else host}:{port + number}"
