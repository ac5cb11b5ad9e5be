"""A running gateway for tests: the real Envoy with compiled configuration, and backends in processes of their own."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal

import aiohttp
from codeyard_gateway.render import envoy_command, write_gateway
from codeyard_gateway.settings import GatewaySettings

from tests.gateway.fixture_api import IMAGE_VARIABLE, ROOT, fixture_image
from tests.support.processes import die_with_parent, free_port, stop

_READY_SECONDS = 30.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition holds. Raises TimeoutError when it does not within 30 seconds."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("admin", timeout=_READY_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


async def counters(
    http: aiohttp.ClientSession, name: Literal["open_streams", "held"], processes: int
) -> dict[str, int]:
    """Return a counter of each process by the process's name; requests go round among them."""
    values: dict[str, int] = {}
    while len(values) < processes:
        async with http.get("/v1/things/counters") as answer:
            body = await answer.json()
        values[body["process"]] = body["sizes"][("open_streams", "held").index(name)]
    return values


class Backend:
    """One process of tests/gateway/backend.py."""

    def __init__(self, folder: pathlib.Path, number: int) -> None:
        self._image = folder / "image.binpb"
        self.name = f"backend-{number}"
        self.grpc_socket = folder / f"server-{number}.sock"
        self.edge_socket = folder / f"edge-{number}.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` waits until it serves."""
        command = [
            sys.executable,
            "-m",
            "tests.gateway.backend",
            self.name,
            str(self.grpc_socket),
            str(self.edge_socket),
        ]
        if not self._image.exists():
            # Whole or not at all: another backend may be reading it.
            partial = self._image.with_suffix(".partial")
            partial.write_bytes(fixture_image())
            partial.replace(self._image)
        python_path = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": python_path, IMAGE_VARIABLE: str(self._image)}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
        )

    def wait_ready(self) -> None:
        """Block until the process says that it serves. Raises RuntimeError when it ended instead."""
        if self._process is None or self._process.stdout is None or not self._process.stdout.readline():
            raise RuntimeError(f"{self.name} did not start")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End the process at once and wait for it."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


class Gateway:
    """Envoy in front of ``backends`` processes. A context manager.

    ``changes`` are settings that differ from the defaults; the deadline of unary calls is one second.
    """

    def __init__(self, backends: int = 2, **changes: Any) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="cy-gw-")
        self.folder = pathlib.Path(self._scratch.name)
        self.backends = [Backend(self.folder, number) for number in range(backends)]
        settings = GatewaySettings(
            server_sockets=tuple(str(backend.grpc_socket) for backend in self.backends),
            edge_sockets=tuple(str(backend.edge_socket) for backend in self.backends),
            admin_socket=str(self.folder / "admin.sock"),
            port=free_port(),
            unary_timeout_seconds=1,
            concurrency=1,
        )
        self.settings = dataclasses.replace(settings, **changes)
        self._envoy: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The public port."""
        return self.settings.port

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What Envoy wrote to its log: warnings and errors, so nothing in a good run."""
        return (self.folder / "envoy.log").read_text()

    def start(self) -> None:
        """Start everything and wait until a request would be answered."""
        for backend in self.backends:
            backend.start()
        config = write_gateway(self.settings, fixture_image(), self.folder / "config")
        # Envoy last: a health check that fails is repeated only a second later.
        for backend in self.backends:
            backend.wait_ready()
        with (self.folder / "envoy.log").open("wb") as log:
            self._envoy = subprocess.Popen(
                envoy_command(self.settings, config, drain_seconds=1),
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
            )
        self._wait_ready()

    def wait_end(self) -> None:
        """Block until Envoy has ended, which somebody else asked it to."""
        if self._envoy is not None:
            self._envoy.wait(_READY_SECONDS)

    def close(self) -> None:
        """Stop everything and remove the files."""
        if self._envoy is not None:
            stop(self._envoy)
        for backend in self.backends:
            backend.stop()
        self._scratch.cleanup()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            if self._envoy is None or self._envoy.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Envoy did not start:\n{self.log}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return "LIVE" in self.admin("/ready") and self.healthy_servers() == len(self.backends)
        except OSError:
            return False

    def healthy_servers(self) -> int:
        """Return how many server processes Envoy believes alive."""
        lines = self.admin("/clusters").splitlines()
        return sum(line.startswith("server::") and line.endswith("::health_flags::healthy") for line in lines)

    def admin(self, path: str, method: str = "GET") -> str:
        """Ask Envoy's administration. Raises OSError when it does not answer."""
        connection = _UnixConnection(str(self.folder / "admin.sock"))
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    async def raw(self, request: bytes) -> bytes:
        """Send bytes and return one answer with a content-length, head and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
                return head + await reader.readexactly(int(fields[b"content-length"]))
        finally:
            writer.close()

    def __enter__(self) -> Gateway:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
