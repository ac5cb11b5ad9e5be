"""Turns under ``kill -9`` and under a database that restarts: what was acknowledged is answered, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import aiohttp
import asyncpg
import pytest

from tests.support import naps
from tests.support.client import Rest, rest
from tests.support.log_checker import check
from tests.support.postgres import DURABLE_SETTINGS, PostgresServer
from tests.support.processes import stop
from tests.support.yard import Yard, free_port, fresh_yard

pytestmark = pytest.mark.chaos

SESSIONS = 16
MESSAGES = 5
TURNS = 60
INTERRUPTED = 15
PATIENCE = 600
"""Seconds; only so that a hang ends. It takes a minute on two quiet cores."""


@pytest.fixture(scope="module")
def nap_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, pathlib.Path]]:
    """The MCP server with slow tools, and the administrator's file that names it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, naps.__file__, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    config = tmp_path_factory.mktemp("mcp") / "mcp.json"
    config.write_text(json.dumps([{"name": "naps", "url": f"http://127.0.0.1:{port}/mcp"}]))
    yield port, config
    stop(process)


@pytest.fixture
def yard_on(nap_server: tuple[int, pathlib.Path]) -> Iterator[tuple[Yard, PostgresServer]]:
    """Two server processes on a durable database that the test can look into."""
    port, config = nap_server
    with PostgresServer(DURABLE_SETTINGS) as server:
        environment = {
            "DATABASE_URL": server.url(server.create_database()),
            "CODEYARD_MCP_CONFIG": str(config),
            "CODEYARD_WEB_ALLOW": f"127.0.0.1:{port}",
        }
        for yard in fresh_yard(environment):
            yield yard, server


async def converse(client: Rest, path: str, acknowledged: list[str], enough: asyncio.Event) -> None:
    """Send messages until there is enough, some one after the other, some while a turn runs."""
    while len(acknowledged) < MESSAGES or not enough.is_set():
        number = len(acknowledged)
        message = await client.acknowledged(f"{path}/messages", {"content": f"message {number}"})
        acknowledged.append(message["id"])
        await asyncio.sleep(random.uniform(0.2, 1.2))


async def settled(client: Rest, path: str) -> list[dict[str, object]]:
    """Return the log of a session once nothing runs or waits in it."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, AssertionError, TimeoutError):
            answer = await client.ok("GET", f"{path}/events", accept="application/json")
            events: list[dict[str, object]] = answer["items"]
            waiting = {event["data"]["message"]["id"] for event in events if event["type"] == "message.user"}  # type: ignore[index]
            for event in events:
                if event["type"] == "turn.started":
                    waiting -= set(event["data"]["message_ids"])  # type: ignore[index]
            if not waiting and events[-1]["type"] == "session.idled":
                return events
        await asyncio.sleep(0.1)


async def talk(yard: Yard, capabilities: list[str], enough: asyncio.Event) -> list[list[dict[str, object]]]:
    """Hold all conversations until there is enough, and check every log; return the logs."""
    async with rest(yard) as client:
        model = await client.model("llmsim-tools")
        agent = await client.agent(capabilities=capabilities, default_model_id=model)
        paths = [await client.new_session(agent) for _ in range(SESSIONS)]
        sent: list[list[str]] = [[] for _ in paths]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(converse(client, path, ids, enough) for path, ids in zip(paths, sent, strict=True)))
            logs = await asyncio.gather(*(settled(client, path) for path in paths))
    for log, ids in zip(logs, sent, strict=True):
        check(log, ids)
    return logs


@contextlib.asynccontextmanager
async def disturbed(disturb: AsyncIterator[None]) -> AsyncIterator[None]:
    """Run a disturbance beside the block."""

    async def run() -> None:
        async for _ in disturb:
            pass

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def kills(yard: Yard) -> AsyncIterator[None]:
    """``kill -9`` a server process that runs, at random, every 1 to 2 s."""
    while True:
        await asyncio.sleep(random.uniform(1, 2))
        status = await asyncio.to_thread(yard.status)
        running = [
            part["pid"]
            for part in status["processes"]
            if part["name"].startswith("server-") and part["state"] == "running"
        ]
        if running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(running), signal.SIGKILL)
        yield


async def progress(database_url: str) -> tuple[int, int]:
    """Return how many turns have ended, and how often one changed hands.

    A stream counts its owners, and each turn has one to begin with: what is more are takeovers.
    """
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchrow(
            "SELECT count(*) FILTER (WHERE state = 'completed') AS ended,"
            " coalesce((SELECT sum(generation) FROM streams), 0) - count(*) AS interrupted FROM turns"
        )
        return int(row["ended"]), int(row["interrupted"])
    finally:
        await connection.close()


async def test_every_acknowledged_message_is_answered_once_when_servers_are_killed(
    yard_on: tuple[Yard, PostgresServer],
) -> None:
    """60 turns and more with tool calls of 300 ms, servers killed every 1 to 2 s, 15 turns and more interrupted."""
    yard, _ = yard_on
    url, enough = yard.environment["DATABASE_URL"], asyncio.Event()

    async def kill_until_enough() -> AsyncIterator[None]:
        async for _ in kills(yard):
            ended, interrupted = await progress(url)
            if ended >= TURNS and interrupted >= INTERRUPTED:
                enough.set()
                return
            yield

    async with disturbed(kill_until_enough()):
        logs = await talk(yard, ["mcp:naps", "current_time"], enough)
    turns = sum(event["type"] == "turn.started" for log in logs for event in log)
    _, interrupted = await progress(url)
    print(f"{turns} turns, {interrupted} times interrupted in the middle of a step")
    assert turns >= TURNS
    assert interrupted >= INTERRUPTED


async def test_nothing_acknowledged_is_lost_when_the_database_restarts(yard_on: tuple[Yard, PostgresServer]) -> None:
    """The database goes down twice under load, once by a crash."""
    yard, server = yard_on
    enough = asyncio.Event()

    async def restart() -> AsyncIterator[None]:
        for how in (signal.SIGQUIT, signal.SIGINT):
            await asyncio.sleep(1.5)
            await asyncio.to_thread(server.restart, how)
            yield
        await asyncio.sleep(1)
        enough.set()

    async with disturbed(restart()):
        await talk(yard, ["current_time", "mcp:naps"], enough)
    assert enough.is_set()
