"""One side of a delivery: readers in one process, a writer in another, and between them what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.bench.figures import Cpu, percentile
from tests.bench.places import Program
from tests.bench.wire import Target

_PATIENCE_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What one run of a side has shown, in seconds; ``latencies`` from an event's commit to its byte at a reader."""

    latencies: list[float]
    seconds: float
    """From the first publication to the last arrival."""

    @property
    def rate(self) -> float:
        """Delivered events per second."""
        return len(self.latencies) / self.seconds

    def latency(self, share: float) -> float:
        """Return a percentile of the latencies."""
        return percentile(self.latencies, share)


class Side:
    """A system with its readers and its writer."""

    def __init__(self, target: Target, readers: Program, writer: Program) -> None:
        self._target = target
        self._readers = readers
        self._writer = writer
        self._streams: list[str] = []
        self._open = 0
        self._marks = 0

    def open(self, streams: Sequence[str], paths: Sequence[str]) -> None:
        """Open readers of fresh streams: one on each path, the same number for every stream."""
        self._streams, self._open = list(streams), len(paths)
        address, headers = self._target.address, self._target.headers
        self._check_open(self._readers.ask(do="open", address=address, headers=headers, paths=list(paths)))

    def close(self) -> None:
        """Close the readers' streams."""
        self._readers.ask(do="close")

    def run(self, count: int, rate: float | None, cpu: Cpu, *, together: int = 1) -> Run:
        """Publish events, wait until all readers have all of theirs, and return the figures.

        Args:
            count: how many events, spread over the streams.
            rate: transactions per second; None for as many as the database takes.
            cpu: counts what is used meanwhile, per delivered event.
            together: how many events of one stream go into a transaction.

        Raises:
            RuntimeError: a reader has lost its stream or lacks an event, or has one twice.
        """
        each = self._open // len(self._streams)
        first, self._marks = self._marks, self._marks + count
        with cpu.counted(count * each):
            self._readers.tell(do="wait", events=count * each, seconds=_PATIENCE_SECONDS)
            written = self._writer.ask(streams=self._streams, first=first, count=count, rate=rate, together=together)
            read = self._readers.hear()
        self._check_open(read)
        latencies, last = [], 0
        for mark, committed in written["commits"].items():
            arrivals = read["arrivals"].get(mark, [])
            if len(arrivals) != each:
                raise RuntimeError(f"event {mark} came {len(arrivals)} times to {each} readers")
            latencies += [(arrival - committed) / 1e9 for arrival in arrivals]
            last = max(last, *arrivals)
        return Run(latencies, (last - written["started"]) / 1e9)

    def _check_open(self, answer: dict[str, int]) -> None:
        if answer["open"] != self._open:
            raise RuntimeError(f"{answer['open']} of {self._open} streams are open")
