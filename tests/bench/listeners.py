"""100 readers on one session, against the usual way without a broker: FastAPI with a LISTEN connection per reader (two
processes under uvicorn with uvloop, no gateway before it, which is in its favour). Both writers send one statement per
event from eight connections to the same database server. "Saturated" publishes without a pause and divides what all
readers got by the time to the last arrival. The second figure is commit → SSE byte at a rate that both can hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tests.bench.delivery import Run, Side
from tests.bench.fanout import our_side
from tests.bench.figures import RUNS, Cpu, Row, duration, listed, median_of, ratio_of
from tests.bench.places import Place, fresh_place, helper, peer_server

READERS = 100
SATURATED_EVENTS = 400
CALM_EVENTS = 60
CALM_RATE = 20
FACTOR = 5

_STREAM = "bench"


class _Contender:
    def __init__(self, side: Side, new_cpu: Callable[[], Cpu]) -> None:
        self.side = side
        self.saturated_cpu, self.calm_cpu = new_cpu(), new_cpu()
        self.saturated: list[Run] = []
        self.calm: list[Run] = []

    def turn(self) -> None:
        """Open the readers, measure both ways, and close them: the other side's turn finds nothing of this one."""
        self.side.open()
        self.saturated.append(self.side.run(SATURATED_EVENTS, None, self.saturated_cpu))
        self.calm.append(self.side.run(CALM_EVENTS, CALM_RATE, self.calm_cpu))
        self.side.close()


@contextlib.contextmanager
def _peer(place: Place) -> Iterator[tuple[Side, Callable[[], Cpu]]]:
    paths = [f"/streams/{_STREAM}/events"] * READERS
    with (
        peer_server("sse_listen.py", place.server) as (target, new_cpu, url),
        helper("readers") as reading,
        helper("writer", url, "listen") as writing,
    ):
        yield Side(target, reading, writing, [_STREAM], paths), new_cpu


def measure() -> list[Row]:
    """Run the scenario."""
    with fresh_place() as place, our_side(place, 1, READERS) as our, _peer(place) as (their, their_cpu):
        _Contender(our, place.cpu).turn()
        _Contender(their, their_cpu).turn()
        ours, peer = _Contender(our, place.cpu), _Contender(their, their_cpu)
        for _ in range(RUNS):
            ours.turn()
            peer.turn()
    return [_saturated(ours, peer), _calm(ours, peer)]


def _saturated(ours: _Contender, peer: _Contender) -> Row:
    rates, theirs = [run.rate for run in ours.saturated], [run.rate for run in peer.saturated]
    ratio = ratio_of(rates, theirs)
    return Row(
        name=f"delivered events, {READERS} readers on one session, saturated: rate",
        median=f"{median_of(rates):,.0f} /s",
        runs=listed(rates, theirs) + " /s",
        peer=f"{median_of(theirs):,.0f} /s (ours: {ratio:.1f} ×)",
        bound=f"≥ {FACTOR} × LISTEN per reader",
        held=ratio >= FACTOR,
        cpu=f"{ours.saturated_cpu.per_operation()}; peer {peer.saturated_cpu.per_operation()}",
    )


def _calm(ours: _Contender, peer: _Contender) -> Row:
    medians, theirs = [run.latency(0.5) for run in ours.calm], [run.latency(0.5) for run in peer.calm]
    p95, p95_theirs = (median_of([run.latency(0.95) for run in side.calm]) for side in (ours, peer))
    return Row(
        name=f"commit → SSE byte, {READERS} readers on one session, {CALM_RATE} events/s: time",
        median=duration(median_of(medians)),
        runs=listed((value * 1000 for value in medians), (value * 1000 for value in theirs), digits=1) + " ms",
        p95=duration(p95),
        peer=f"{duration(median_of(theirs))}, p95 {duration(p95_theirs)}",
        cpu=f"{ours.calm_cpu.per_operation()}; peer {peer.calm_cpu.per_operation()}",
    )
