"""Commit → SSE byte: from the moment a writer knows that an event is committed to the moment a reader has its bytes.
The writer is a third process of the server's code (event log, fan-out, notifications), the readers are a fourth,
connected through the gateway to two server processes. 1,000 readers follow a session each at 500 events a second
altogether; then 1,000 readers follow one session at 10 events a second, each of which goes out 1,000 times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvloop

from tests.bench.delivery import Side
from tests.bench.figures import RUNS, Row, duration, listed, median_of
from tests.bench.places import Place, copy_session, fresh_place, helper, new_agent, new_session

READERS = 1000
BOUND_SECONDS = 0.050


@contextlib.contextmanager
def our_side(place: Place) -> Iterator[Side]:
    """Start readers and a writer for a yard."""
    with helper("readers") as reading, helper("writer", place.database_url, "core") as writing:
        yield Side(place.target, reading, writing)


def new_streams(place: Place, sessions: int, readers: int) -> tuple[list[str], list[str]]:
    """Make sessions and return them with the paths of their readers, who are shared out equally."""
    agent_path, ids = uvloop.run(_new_sessions(place, sessions))
    return ids, [f"{agent_path}/sessions/{ids[number % sessions]}/events" for number in range(readers)]


async def _new_sessions(place: Place, count: int) -> tuple[str, list[str]]:
    agent_path = await new_agent(place.target)
    session_id = await new_session(place.target, agent_path)
    return agent_path, [session_id, *await copy_session(place.database_url, session_id, count - 1)]


def measure_many() -> list[Row]:
    """1,000 readers on 1,000 sessions."""
    return [_latency(f"commit → SSE byte, {READERS:,} readers on {READERS:,} sessions", READERS, 500, 2500, 0.99)]


def measure_one() -> list[Row]:
    """1,000 readers on one session."""
    return [_latency(f"commit → SSE byte, {READERS:,} readers on one session", 1, 10, 40, 0.95)]


def _latency(name: str, sessions: int, rate: int, count: int, share: float) -> Row:
    with fresh_place() as place, our_side(place) as side:
        side.open(*new_streams(place, sessions, READERS))
        side.run(count, rate, place.cpu())
        cpu = place.cpu()
        runs = [side.run(count, rate, cpu) for _ in range(RUNS)]
    figures = [run.latency(share) for run in runs]
    return Row(
        name=f"{name}, {rate} events/s: p{share * 100:.0f}",
        median=duration(median_of(figures)),
        runs=listed((figure * 1000 for figure in figures), digits=1) + " ms",
        p95=duration(median_of([run.latency(0.95) for run in runs])),
        bound=f"≤ {BOUND_SECONDS * 1000:.0f} ms",
        held=median_of(figures) <= BOUND_SECONDS,
        cpu=cpu.per_operation(),
    )
