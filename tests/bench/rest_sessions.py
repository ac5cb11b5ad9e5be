"""Create and read a session over REST, as one operation: a POST, then a GET of what it made, on 32 keep-alive
connections. Ours goes through the gateway with its checks of host, credential and bounds, to two server processes; the
peer is FastAPI with SQLAlchemy's async ORM on asyncpg, two processes under uvicorn with uvloop, called directly and
without a credential. Both write the same rows in one transaction, on the same database server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import uvloop

from tests.bench.figures import RUNS, Cpu, Row, duration, flat, listed, median_of, percentile, ratio_of
from tests.bench.places import fresh_place, new_agent, peer_server
from tests.bench.wire import Connection, Target

CONNECTIONS = 32
PAIRS_EACH = 40
FACTOR = 1.5


class _Contender:
    def __init__(self, target: Target, path: str) -> None:
        self._target = target
        self._path = path
        self._create = target.bytes_of("POST", path, {"title": "Bench"})
        self.rates: list[float] = []
        self.times: list[float] = []

    @classmethod
    async def open(cls, target: Target) -> _Contender:
        agent_path = await new_agent(target)
        return cls(target, agent_path + "/sessions")

    async def turn(self, cpu: Cpu) -> None:
        # New ones each time: a server closes connections that are idle while the other side has its turn.
        connections = [await self._target.connection() for _ in range(CONNECTIONS)]
        with cpu.counted(CONNECTIONS * PAIRS_EACH):
            started = time.perf_counter()
            times = await asyncio.gather(*map(self._pairs, connections))
            seconds = time.perf_counter() - started
        for connection in connections:
            connection.close()
        self.rates.append(CONNECTIONS * PAIRS_EACH / seconds)
        self.times += flat(times)

    async def _pairs(self, connection: Connection) -> list[float]:
        times = []
        for _ in range(PAIRS_EACH):
            started = time.perf_counter()
            made = await self._call(connection, self._create, 201)
            read = await self._call(connection, self._target.bytes_of("GET", f"{self._path}/{made['id']}"), 200)
            times.append(time.perf_counter() - started)
            if read["id"] != made["id"]:
                raise RuntimeError(f"{made['id']} was read as {read['id']}")
        return times

    @staticmethod
    async def _call(connection: Connection, request: bytes, expected: int) -> dict[str, str]:
        status, body = await connection.request(request)
        if status != expected:
            raise RuntimeError(f"{status} {body[:200]!r}")
        result: dict[str, str] = json.loads(body)
        return result

    def forget(self) -> None:
        """Forget the runs so far, which warmed up."""
        self.rates.clear()
        self.times.clear()


def measure() -> list[Row]:
    """Run the scenario."""
    with fresh_place() as place, peer_server("sessions_api.py", place.server) as (target, their_cpu, _):
        return [uvloop.run(_measure(place.target, target, (place.cpu, their_cpu)))]


async def _measure(target: Target, peers_target: Target, new_cpu: tuple[Callable[[], Cpu], Callable[[], Cpu]]) -> Row:
    ours, peer = await _Contender.open(target), await _Contender.open(peers_target)
    for _ in range(2):
        await ours.turn(new_cpu[0]())
        await peer.turn(new_cpu[1]())
    ours.forget()
    peer.forget()
    cpu, their_cpu = (make() for make in new_cpu)
    for _ in range(RUNS):
        await ours.turn(cpu)
        await peer.turn(their_cpu)
    ratio = ratio_of(ours.rates, peer.rates)
    return Row(
        name=f"create + read a session, {CONNECTIONS} connections: rate (p95: time of both)",
        median=f"{median_of(ours.rates):,.0f} /s",
        runs=listed(ours.rates, peer.rates) + " /s",
        p95=duration(percentile(ours.times, 0.95)),
        peer=f"{median_of(peer.rates):,.0f} /s, p95 {duration(percentile(peer.times, 0.95))} (ours: {ratio:.2f} ×)",
        bound=f"≥ {FACTOR} × FastAPI + SQLAlchemy",
        held=ratio >= FACTOR,
        cpu=f"{cpu.per_operation()}; peer {their_cpu.per_operation()}",
    )
