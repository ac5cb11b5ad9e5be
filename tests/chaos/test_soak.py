"""Minutes of load with disturbances, and what must not grow: files, memory. Only `make soak` runs this."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time

import pytest

from tests.bench.figures import resident_kib
from tests.support.client import Rest, rest
from tests.support.log_checker import check
from tests.support.yard import Yard

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
SESSIONS = 32
READERS = 200
MAX_GROWTH_KIB = 64 * 1024
MAX_NEW_FILES = 64


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def servers(yard: Yard) -> list[int]:
    """Return the process ids of the servers."""
    return [part["pid"] for part in yard.status()["processes"] if part["name"].startswith("server-")]


async def converse(client: Rest, path: str, cursor: list[str], until: float) -> list[str]:
    """Have messages answered one after the other; return their ids. ``cursor`` keeps the last event that was seen."""
    ids = []
    while time.monotonic() < until:
        message = await client.acknowledged(f"{path}/messages", {"content": "Hello"})
        ids.append(message["id"])
        async for frame in client.frames(f"{path}/events", cursor[-1] if cursor else None):
            if frame.event == "session.idled" and frame.id:
                cursor.append(frame.id)
                break
    return ids


async def talk(client: Rest, paths: list[str], cursors: list[list[str]], until: float) -> list[list[str]]:
    """Hold all conversations until then."""
    return await asyncio.gather(
        *(converse(client, path, cursor, until) for path, cursor in zip(paths, cursors, strict=True))
    )


async def read(client: Rest, path: str) -> None:
    """Follow a session for ever."""
    async for _ in client.frames(f"{path}/events"):
        pass


async def test_load_leaves_no_leak(yard: Yard) -> None:
    """Conversations and 200 readers for minutes: every log is right, and no process keeps what it used."""
    async with rest(yard) as client:
        agent = await client.agent(capabilities=["current_time"], default_model_id=await client.model("llmsim-tools"))
        paths = [await client.new_session(agent) for _ in range(SESSIONS)]
        readers = [asyncio.create_task(read(client, paths[n % SESSIONS])) for n in range(READERS)]
        warm = time.monotonic() + SECONDS / 5
        cursors: list[list[str]] = [[] for _ in paths]
        ids = [await talk(client, paths, cursors, warm)]
        before = {pid: (open_files(pid), resident_kib(pid)) for pid in servers(yard)}
        ids.append(await talk(client, paths, cursors, warm + SECONDS))
        for pid, (files, memory) in before.items():
            assert open_files(pid) <= files + MAX_NEW_FILES
            assert resident_kib(pid) <= memory + MAX_GROWTH_KIB
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for number, path in enumerate(paths):
            sent = [key for part in ids for key in part[number]]
            check(await whole_log(client, path), sent)


async def whole_log(client: Rest, path: str) -> list[dict[str, object]]:
    """Return all events of a session, page by page."""
    events: list[dict[str, object]] = []
    while True:
        since = f"?since_id={events[-1]['id']}" if events else ""
        page = (await client.ok("GET", f"{path}/events{since}", accept="application/json"))["items"]
        if not page:
            return events
        events += page
