"""An answered turn over REST: from posting a message to the byte of the session's event stream that tells of the turn's
end. The simulator answers; ten events are stored and sent per turn. First one session, one turn after the other, then
64 sessions at once. Two server processes, all of it through the gateway.
"""

from __future__ import annotations

import asyncio
import time

import uvloop

from tests.bench.figures import RUNS, Cpu, Row, duration, flat, listed, median_of, percentile
from tests.bench.places import Place, fresh_place, new_agent, new_session
from tests.bench.wire import Connection, Stream, Target

ALONE = 100
"""Turns of a run, alone."""
SESSIONS = 64
TURNS_EACH = 12
"""Turns of each session in a run, together."""

_END = b"event: session.idled"


class Talker:
    """One session: posts a message, waits for the turn's end on the stream."""

    def __init__(self, target: Target, path: str) -> None:
        self._request = target.bytes_of("POST", path + "/messages", {"content": "Hello"})
        self._path = path
        self._ended = asyncio.Event()
        self._connection: Connection | None = None
        self._stream: Stream | None = None

    @classmethod
    async def open(cls, target: Target, agent_path: str) -> Talker:
        """Open a session with its stream."""
        session_id = await new_session(target, agent_path)
        talker = cls(target, f"{agent_path}/sessions/{session_id}")
        talker._connection = await target.connection()
        talker._stream = await target.stream(talker._path + "/events", talker._receive)
        return talker

    def _receive(self, data: bytes) -> None:
        if _END in data:
            self._ended.set()

    async def turn(self) -> float:
        """Have one message answered; return seconds from sending it to the end of its turn on the stream."""
        assert self._connection is not None
        self._ended.clear()
        started = time.perf_counter()
        status, body = await self._connection.request(self._request)
        if status != 201:
            raise RuntimeError(f"{status} {body[:200]!r}")
        await self._ended.wait()
        return time.perf_counter() - started

    def close(self) -> None:
        """Close both connections."""
        for part in (self._connection, self._stream):
            if part is not None:
                part.close()


def measure() -> list[Row]:
    """Run the scenario."""
    with fresh_place() as place:
        return uvloop.run(_measure(place))


async def _measure(place: Place) -> list[Row]:
    agent_path = await new_agent(place.target)
    return [await _alone(place, agent_path), await _together(place, agent_path)]


async def _alone(place: Place, agent_path: str) -> Row:
    await _run_alone(place, agent_path, place.cpu())
    cpu = place.cpu()
    runs = [await _run_alone(place, agent_path, cpu) for _ in range(RUNS)]
    medians = [percentile(times, 0.5) for times in runs]
    return Row(
        name="answered turn, one session: time",
        median=duration(median_of(medians)),
        runs=listed((median * 1000 for median in medians), digits=1) + " ms",
        p95=duration(percentile(flat(runs), 0.95)),
        bound="≤ 10 ms",
        held=median_of(medians) <= 0.010,
        cpu=cpu.per_operation(),
    )


async def _run_alone(place: Place, agent_path: str, cpu: Cpu) -> list[float]:
    talker = await Talker.open(place.target, agent_path)
    with cpu.counted(ALONE):
        times = [await talker.turn() for _ in range(ALONE)]
    talker.close()
    return times


async def _together(place: Place, agent_path: str) -> Row:
    await _run_together(place, agent_path, place.cpu())
    cpu = place.cpu()
    runs = [await _run_together(place, agent_path, cpu) for _ in range(RUNS)]
    rates = [rate for rate, _ in runs]
    return Row(
        name="answered turns, 64 sessions: rate (p95: time of a turn)",
        median=f"{median_of(rates):.0f} /s",
        runs=listed(rates) + " /s",
        p95=duration(percentile(flat(times for _, times in runs), 0.95)),
        bound="≥ 300 /s",
        held=median_of(rates) >= 300,
        cpu=cpu.per_operation(),
    )


async def _run_together(place: Place, agent_path: str, cpu: Cpu) -> tuple[float, list[float]]:
    """Return turns per second and the time of each turn."""
    talkers = await asyncio.gather(*(Talker.open(place.target, agent_path) for _ in range(SESSIONS)))
    with cpu.counted(SESSIONS * TURNS_EACH):
        started = time.perf_counter()
        times = await asyncio.gather(*map(_talk, talkers))
        seconds = time.perf_counter() - started
    for talker in talkers:
        talker.close()
    return SESSIONS * TURNS_EACH / seconds, flat(times)


async def _talk(talker: Talker) -> list[float]:
    return [await talker.turn() for _ in range(TURNS_EACH)]
