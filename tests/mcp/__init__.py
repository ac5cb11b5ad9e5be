"""Real MCP servers for tests, on a loopback port or as a child process.

``everything`` is the reference server that the protocol's authors publish (npm); ``odd`` is one of our own, with tools
that crash, hang and grow, for what no well-behaved server does; ``modern`` is the odd one without the old handshake.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Literal

from codeyard_server.capabilities.ports import McpServer

from tests.support.processes import die_with_parent, free_port, stop
from tools import real_parts

FOLDER = pathlib.Path(__file__).parent
_START_SECONDS = 60.0

Kind = Literal["everything", "odd", "modern"]


class HttpServer:
    """A server over streamable HTTP that can be killed and started again at the same address."""

    def __init__(self, kind: Kind, log: pathlib.Path) -> None:
        self.port = free_port()
        self._kind = kind
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> McpServer:
        """How it is reached."""
        return McpServer(key=f"http/{self.port}", name=self._kind, url=f"http://127.0.0.1:{self.port}/mcp")

    def log(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it does not; the message has what it printed.
        """
        before = len(self.log()) if self._log.exists() else 0
        if self._kind == "everything":
            command: list[str | pathlib.Path] = [*_everything(), "streamableHttp"]
        else:
            command = [sys.executable, FOLDER / "odd_server.py", str(self.port), self._kind]
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it is one system call
            )
        deadline = time.monotonic() + _START_SECONDS
        while "listening on port" not in self.log()[before:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the MCP server did not start:\n{self.log()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without a chance to say so."""
        if self._process is not None:
            self._process.kill()
            stop(self._process)
            self._process = None

    def revive(self) -> None:
        """Start it if it has ended."""
        if self._process is None or self._process.poll() is not None:
            self.start()


@contextlib.contextmanager
def http_server(kind: Kind, folder: pathlib.Path) -> Iterator[HttpServer]:
    """Run a server over streamable HTTP; its log goes into the folder."""
    server = HttpServer(kind, folder / f"{kind}.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()


def stdio_server(kind: Kind, **env: str) -> McpServer:
    """Return a server that the client starts itself."""
    if kind == "everything":
        program, *arguments = map(str, [*_everything(), "stdio"])
    else:
        program, *arguments = sys.executable, str(FOLDER / "odd_server.py"), "stdio"
    return McpServer(key=f"stdio/{kind}", name=kind, command=program, args=tuple(arguments), env=env)


def _everything() -> list[pathlib.Path]:
    package = real_parts.npm_package(FOLDER) / "node_modules" / "@modelcontextprotocol" / "server-everything"
    return [real_parts.node_binary(), package / "dist" / "index.js"]
