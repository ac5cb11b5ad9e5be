"""5,000 idle event streams held by one server process, each on a session of its own and through the gateway. What is
shown is how much the resident memory of the server and of the gateway has grown per stream, once all are open. Then
every session gets one event, and every stream must deliver it. Each run starts server and gateway anew; 200 streams
that are opened and closed before the count warm them up.
"""

from __future__ import annotations

import dataclasses

from tests.bench.fanout import new_streams, our_side
from tests.bench.figures import RUNS, Row, cpu_seconds, duration, listed, median_of, resident_kib
from tests.bench.places import Place, durable_server, yard_on

STREAMS = 5000
_WARM_UP = 200
_EVENTS_PER_SECOND = 1000


def measure() -> list[Row]:
    """Run the scenario."""
    with durable_server() as server:
        runs = []
        for _ in range(RUNS):
            with yard_on(server, server.url(server.create_database()), processes=1) as place:
                runs.append(_run(place))
    servers, gateways = [run.server_kib / STREAMS for run in runs], [run.gateway_kib / STREAMS for run in runs]
    return [
        Row(
            name=f"{STREAMS:,} idle streams, one server process: memory of a stream (p95: commit → SSE byte)",
            median=f"server {median_of(servers):.1f} KiB, gateway {median_of(gateways):.1f} KiB",
            runs=f"server {listed(servers, digits=1)} KiB; gateway {listed(gateways, digits=1)} KiB",
            p95=duration(median_of([run.p95 for run in runs])),
            bound=f"{STREAMS:,} open, each delivers",
            held=True,  # a run in which one is not open, or does not deliver, fails the scenario
            cpu=f"{duration(median_of([run.opening for run in runs]))} to open one",
        )
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    server_kib: int
    gateway_kib: int
    opening: float
    """CPU seconds of server, gateway and database per opened stream."""
    p95: float
    """Of the seconds from commit to byte, of the event that each gets afterwards."""


def _run(place: Place) -> _Run:
    pids = [place.yard.pid("server-0"), place.yard.pid("envoy")]
    with our_side(place) as side:
        side.open(*new_streams(place, _WARM_UP, _WARM_UP))
        side.run(_WARM_UP, _EVENTS_PER_SECOND, place.cpu())
        side.close()
        streams, paths = new_streams(place, STREAMS, STREAMS)
        before, cpu = [resident_kib(pid) for pid in pids], cpu_seconds([*pids, place.server.pid])
        side.open(streams, paths)
        grown = [resident_kib(pid) - kib for pid, kib in zip(pids, before, strict=True)]
        opening = cpu_seconds([*pids, place.server.pid]) - cpu
        run = side.run(STREAMS, _EVENTS_PER_SECOND, place.cpu())
    return _Run(grown[0], grown[1], opening / STREAMS, run.latency(0.95))
