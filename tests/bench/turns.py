"""Answered turns over REST: a message is posted, the answer is read from the session's event stream."""

from __future__ import annotations

import asyncio
import time

from tests.bench.figures import Cpu, Row, median_of, percentile
from tests.bench.wire import Connection, Stream, Target

RUNS = 5
ALONE = 100
SESSIONS = 64
TURNS_EACH = 12
_END = b"event: session.idled"


class Talker:
    """One session: posts a message, waits for the turn's end on the stream."""

    def __init__(self, target: Target, path: str) -> None:
        self._request = target.bytes_of("POST", path + "/messages", {"content": "Hello"})
        self._path = path
        self._target = target
        self._ended = asyncio.Event()
        self._tail = b""
        self._connection: Connection | None = None
        self._stream: Stream | None = None

    @classmethod
    async def open(cls, target: Target, agent_id: str) -> Talker:
        """Open a session with its stream."""
        session = await target.json("POST", f"/v1/agents/{agent_id}/sessions", {})
        talker = cls(target, f"/v1/agents/{agent_id}/sessions/{session['id']}")
        talker._connection = await target.connection()
        talker._stream = await target.stream(talker._path + "/events", talker._receive)
        return talker

    def _receive(self, data: bytes) -> None:
        window = self._tail + data
        if _END in window:
            self._ended.set()
            window = b""
        self._tail = window[-len(_END) :]

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


async def alone(target: Target, agent_id: str, pids: list[int]) -> Row:
    """One session, one turn after the other."""
    medians, all_times = [], []
    warm = await Talker.open(target, agent_id)
    for _ in range(30):
        await warm.turn()
    warm.close()
    cpu = Cpu(pids)
    for _ in range(RUNS):
        talker = await Talker.open(target, agent_id)
        times = [await talker.turn() for _ in range(ALONE)]
        talker.close()
        medians.append(percentile(times, 0.5))
        all_times += times
    median = median_of(medians) * 1000
    return Row(
        "answered turn, alone",
        f"{median:.1f} ms median, {percentile(all_times, 0.95) * 1000:.1f} ms p95",
        "<= 10 ms",
        median <= 10,
        cpu.per(len(all_times)),
    )


async def together(target: Target, agent_id: str, pids: list[int]) -> Row:
    """64 sessions at once."""
    rates = []
    cpu, count = Cpu(pids), 0
    for _ in range(RUNS):
        talkers = await asyncio.gather(*(Talker.open(target, agent_id) for _ in range(SESSIONS)))

        async def talk(talker: Talker) -> None:
            for _ in range(TURNS_EACH):
                await talker.turn()

        started = time.perf_counter()
        await asyncio.gather(*map(talk, talkers))
        rates.append(SESSIONS * TURNS_EACH / (time.perf_counter() - started))
        count += SESSIONS * TURNS_EACH
        for talker in talkers:
            talker.close()
    rate = median_of(rates)
    return Row("answered turns, 64 sessions", f"{rate:.0f} /s", ">= 300 /s", rate >= 300, cpu.per(count))
