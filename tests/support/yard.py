"""A whole yard for tests, started as a person starts it: ``codeyard up --detach``."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest


@dataclasses.dataclass
class Yard:
    """A running yard. Only :meth:`start` and :meth:`stop` change it."""

    data: pathlib.Path
    port: int
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    processes: int = 2
    token: str = dataclasses.field(default="", repr=False)
    printed: str = dataclasses.field(default="", repr=False)
    """What ``up`` printed when it was ready."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a call of its administrator carries."""
        return {"authorization": f"Bearer {self.token}"}

    def start(self) -> None:
        """Bring it up and wait until it is ready.

        Raises:
            RuntimeError: it does not come up; the message has its output.
        """
        options = ["--detach", "--data", str(self.data), "--port", str(self.port), "--processes", str(self.processes)]
        done = self.command("up", *options)
        if done.returncode:
            raise RuntimeError(f"codeyard up failed:\n{done.stdout}{done.stderr}{self.logs()}")
        self.printed = done.stdout
        self.token = self.status()["token"]

    def stop(self) -> None:
        """Take it down."""
        self.command("down", "--data", str(self.data))

    def status(self) -> dict[str, Any]:
        """Return what ``codeyard status --output json`` prints."""
        done = self.command("status", "--data", str(self.data), "--output", "json")
        if done.returncode:
            raise RuntimeError(f"codeyard status failed:\n{done.stdout}{done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def pid(self, name: str) -> int:
        """Return the process id of a part: postgres, envoy, server-0 …"""
        return next(int(part["pid"]) for part in self.status()["processes"] if part["name"] == name)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line tool."""
        return subprocess.run(
            [sys.executable, "-m", "codeyard_cli", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def logs(self) -> str:
        """Return the last lines of every log, for a failure's message."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-30:])
            for path in sorted(self.data.glob("log/*.log"))
        )


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fresh_yard(environment: Mapping[str, str] | None = None, processes: int = 2) -> Iterator[Yard]:
    """Yield a yard on a data directory of its own; the directory goes with it."""
    # Not under pytest's own temporary folder: that is 0700, and the database's user must be able to pass through.
    data = pathlib.Path(tempfile.mkdtemp(prefix="cy-yard-"))
    yard = Yard(data, free_port(), environment or {}, processes)
    try:
        yard.start()
        yield yard
    finally:
        yard.stop()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def yard() -> Iterator[Yard]:
    """The yard that all steel-thread tests share."""
    yield from fresh_yard(
        {
            "CODEYARD_WEB_ALLOW": "127.0.0.1:*",
            "CODEYARD_MODEL_ALLOW": "127.0.0.1:*",
            "ALLOWED_HOSTS": "yard.test",
        }
    )
