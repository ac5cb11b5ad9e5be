"""Where a scenario takes place: a fresh database server, and on it a fresh yard or a peer. None outlives its block."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
from codeyard_server.core.ids import new_id

from tests.bench.figures import Cpu
from tests.bench.setup_peers import PEERS, peers_python
from tests.bench.wire import Target
from tests.support.postgres import DURABLE_SETTINGS, PostgresServer
from tests.support.processes import die_with_parent, free_port, stop
from tests.support.yard import Yard, fresh_yard

SERVER_SETTINGS = {**DURABLE_SETTINGS, "max_connections": "400"}
"""Ours and the peers share one server, and some peers need a connection per reader."""

_COPY_STREAM = """
INSERT INTO streams (id, kind, owner_id)
SELECT copy, kind, owner_id FROM streams, unnest($1::uuid[]) AS copy WHERE id = $2
"""
_COPY_SESSION = """
INSERT INTO sessions (id, agent_id, owner_id, title, tags, model_id, status, created_at, updated_at)
SELECT copy, agent_id, owner_id, title, tags, model_id, status, created_at, updated_at
FROM sessions, unnest($1::uuid[]) AS copy WHERE id = $2
"""


def durable_server() -> PostgresServer:
    """Return a database server, not started, as both sides use it: fsync and synchronous_commit are on."""
    return PostgresServer(SERVER_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Place:
    """A running yard on its database."""

    server: PostgresServer
    database_url: str
    yard: Yard

    @property
    def target(self) -> Target:
        """Its gateway, with the administrator's key."""
        return Target(f"127.0.0.1:{self.yard.port}", self.yard.headers)

    def cpu(self) -> Cpu:
        """Count the CPU of gateway and servers, and of the database."""
        parts = self.yard.status()["processes"]
        return Cpu([part["pid"] for part in parts if part["name"] != "postgres"], self.server.pid)


@contextlib.contextmanager
def yard_on(server: PostgresServer, database_url: str, processes: int = 2) -> Iterator[Place]:
    """Run a yard with the default settings on this database."""
    with contextlib.contextmanager(fresh_yard)({"DATABASE_URL": database_url}, processes) as yard:
        yield Place(server, database_url, yard)


@contextlib.contextmanager
def fresh_place() -> Iterator[Place]:
    """Run a yard of two processes on a fresh database server."""
    with durable_server() as server, yard_on(server, server.url(server.create_database())) as place:
        yield place


class Program:
    """A helper process. It prints ``ready``; then commands and answers are lines of JSON."""

    def __init__(self, command: Sequence[str | pathlib.Path], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
        )
        self._name = str(command[-1])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Return the next answer. Raises RuntimeError when the program has ended."""
        return json.loads(self._line())

    def ask(self, **command: Any) -> Any:
        """Send a command and return its answer."""
        self.tell(**command)
        return self.hear()

    def wait_ready(self) -> None:
        """Wait for its first line."""
        if self._line() != b"ready\n":
            raise RuntimeError(f"{self._name} did not say that it is ready")

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} has ended")
        return line

    def close(self) -> None:
        """End it."""
        stop(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def _running(command: Sequence[str | pathlib.Path], environment: Mapping[str, str]) -> Iterator[Program]:
    program = Program(command, environment)
    try:
        program.wait_ready()
        yield program
    finally:
        program.close()


def helper(module: str, database_url: str = "", *options: str) -> contextlib.AbstractContextManager[Program]:
    """Run a program of ours beside this one, such as ``readers``."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *options]
    return _running(command, {**os.environ, "DATABASE_URL": database_url})


def peer(name: str, database_url: str, *options: str) -> contextlib.AbstractContextManager[Program]:
    """Run a peer's program in the environment of the peers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return _running([peers_python(), PEERS / name, *options], {**environment, "DATABASE_URL": database_url})


@contextlib.contextmanager
def peer_server(name: str, server: PostgresServer) -> Iterator[tuple[Target, Callable[[], Cpu], str]]:
    """Run a peer that serves HTTP, in two processes on a database of its own.

    Yield where it listens, what makes a count of its CPU, and the URL of its database.
    """
    address, url = f"127.0.0.1:{free_port()}", server.url(server.create_database())
    with peer(name, url, "--listen", address, "--workers", "2") as program:
        yield Target(address), lambda: Cpu([program.pid], server.pid), url


async def new_agent(target: Target) -> str:
    """Create an agent and return its path."""
    agent = await target.json("POST", "/v1/agents", {"name": "Bench", "system_prompt": "Answer."})
    return f"/v1/agents/{agent['id']}"


async def new_session(target: Target, agent_path: str) -> str:
    """Create a session and return its id."""
    session = await target.json("POST", agent_path + "/sessions", {})
    return str(session["id"])


async def copy_session(database_url: str, session_id: str, count: int) -> list[str]:
    """Add copies of a session that has no events yet, past the API, which would take seconds for thousands."""
    ids = [new_id() for _ in range(count)]
    connection = await asyncpg.connect(database_url)
    await connection.execute(_COPY_STREAM, ids, session_id)
    await connection.execute(_COPY_SESSION, ids, session_id)
    await connection.close()
    return list(map(str, ids))
