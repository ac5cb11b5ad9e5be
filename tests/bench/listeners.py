"""100 readers on one session, against the usual way without a broker: FastAPI with a LISTEN connection per reader (two
processes under uvicorn with uvloop, no gateway before it, which is in its favour). Both writers send one statement per
event from eight connections to the same database server. "Saturated" publishes without a pause and divides what all
readers got by the time to the last arrival. The second figure is commit → SSE byte at a rate that both can hold.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

from tests.bench.delivery import Run, Side
from tests.bench.fanout import new_streams, our_side
from tests.bench.figures import RUNS, Cpu, Row, duration, listed, median_of, ratio_of
from tests.bench.places import Place, fresh_place, helper, peer_server

READERS = 100
SATURATED_EVENTS = 400
CALM_EVENTS = 60
CALM_RATE = 20
FACTOR = 5


NewStreams = Callable[[], tuple[list[str], list[str]]]
"""Makes a stream, and the paths of its readers."""


class _Contender:
    def __init__(self, side: Side, new_streams: NewStreams, new_cpu: Callable[[], Cpu]) -> None:
        self._side = side
        self._new_streams = new_streams
        self._new_cpu = new_cpu
        self.start()

    def start(self) -> None:
        """Forget the runs so far."""
        self.saturated_cpu, self.calm_cpu = self._new_cpu(), self._new_cpu()
        self.saturated: list[Run] = []
        self.calm: list[Run] = []

    def turn(self) -> None:
        """Open readers, measure both ways, and close them: the other side's turn finds nothing of this one."""
        self._side.open(*self._new_streams())
        self.saturated.append(self._side.run(SATURATED_EVENTS, None, self.saturated_cpu))
        self.calm.append(self._side.run(CALM_EVENTS, CALM_RATE, self.calm_cpu))
        self._side.close()


@contextlib.contextmanager
def _ours(place: Place) -> Iterator[_Contender]:
    with our_side(place) as side:
        yield _Contender(side, lambda: new_streams(place, 1, READERS), place.cpu)


@contextlib.contextmanager
def _peer(place: Place) -> Iterator[_Contender]:
    names = (f"bench-{number}" for number in itertools.count())

    def streams() -> tuple[list[str], list[str]]:
        name = next(names)
        return [name], [f"/streams/{name}/events"] * READERS

    with (
        peer_server("sse_listen.py", place.server) as (target, new_cpu, url),
        helper("readers") as reading,
        helper("writer", url, "listen") as writing,
    ):
        yield _Contender(Side(target, reading, writing), streams, new_cpu)


def measure() -> list[Row]:
    """Run the scenario."""
    with fresh_place() as place, _ours(place) as ours, _peer(place) as peer:
        for contender in (ours, peer):
            contender.turn()
            contender.start()
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
