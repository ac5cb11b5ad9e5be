"""100 readers on one session, against the usual way without a broker: FastAPI with a LISTEN connection per reader (two
processes under uvicorn with uvloop, no gateway before it, which is in its favour). Both writers send one statement per
transaction from eight connections to the same database server. "Saturated" publishes without a pause and divides what
all readers got by the time from the first statement to the last arrival. "Commit → SSE byte" is measured at a rate that
both can hold; it can be below zero, because a notification may overtake the answer that tells the writer of the commit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator

from tests.bench.delivery import Run, Side
from tests.bench.fanout import new_streams, our_side
from tests.bench.figures import RUNS, Cpu, Row, duration, listed, median_of, ratio_of
from tests.bench.places import Place, fresh_place, helper, peer_server

READERS = 100
CALM_RATE = 20
FACTOR = 5


@dataclasses.dataclass(frozen=True, slots=True)
class _Load:
    count: int
    rate: int | None = None
    together: int = 1


_SINGLE = _Load(count=500)
_TENS = _Load(count=2000, together=10)
_CALM = _Load(count=3 * CALM_RATE, rate=CALM_RATE)
_LOADS = (_SINGLE, _TENS, _CALM)

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
        self.cpu = {load: self._new_cpu() for load in _LOADS}
        self.runs: dict[_Load, list[Run]] = {load: [] for load in _LOADS}

    def turn(self) -> None:
        """Open readers, publish each load, and close them: the other side's turn finds nothing of this one."""
        self._side.open(*self._new_streams())
        for load in _LOADS:
            self.runs[load].append(self._side.run(load.count, load.rate, self.cpu[load], together=load.together))
        self._side.close()

    def rates(self, load: _Load) -> list[float]:
        """Return the delivered events per second of each run."""
        return [run.rate for run in self.runs[load]]

    def latencies(self, share: float) -> list[float]:
        """Return a percentile of each calm run."""
        return [run.latency(share) for run in self.runs[_CALM]]


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
    return [
        _saturated(ours, peer, _SINGLE, "saturated, one event per transaction"),
        _saturated(ours, peer, _TENS, "saturated, ten events per transaction"),
        _calm(ours, peer),
    ]


def _saturated(ours: _Contender, peer: _Contender, load: _Load, name: str) -> Row:
    rates, theirs = ours.rates(load), peer.rates(load)
    ratio = ratio_of(rates, theirs)
    return Row(
        name=f"{READERS} readers on one session, {name}: delivered events",
        median=f"{median_of(rates):,.0f} /s",
        runs=listed(rates, theirs) + " /s",
        peer=f"{median_of(theirs):,.0f} /s (ours: {ratio:.1f} ×)",
        bound=f"≥ {FACTOR} × LISTEN per reader",
        held=ratio >= FACTOR,
        cpu=f"{ours.cpu[load].per_operation()}; peer {peer.cpu[load].per_operation()}",
    )


def _calm(ours: _Contender, peer: _Contender) -> Row:
    medians, theirs = ours.latencies(0.5), peer.latencies(0.5)
    return Row(
        name=f"commit → SSE byte, {READERS} readers on one session, {CALM_RATE} events/s: time",
        median=duration(median_of(medians)),
        runs=listed((value * 1000 for value in medians), (value * 1000 for value in theirs), digits=1) + " ms",
        p95=duration(median_of(ours.latencies(0.95))),
        peer=f"{duration(median_of(theirs))}, p95 {duration(median_of(peer.latencies(0.95)))}",
        cpu=f"{ours.cpu[_CALM].per_operation()}; peer {peer.cpu[_CALM].per_operation()}",
    )
