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


@dataclasses.dataclass
class Side:
    """A system with its readers and its writer."""

    target: Target
    readers: Program
    writer: Program
    streams: Sequence[str]
    paths: Sequence[str]
    """What the readers follow: a path each, the same number for every stream."""
    _marks: int = 0

    def open(self) -> None:
        """Open the readers' streams."""
        answer = self.readers.ask(
            do="open", address=self.target.address, headers=self.target.headers, paths=list(self.paths)
        )
        self._check_open(answer["open"])

    def close(self) -> None:
        """Close the readers' streams."""
        self.readers.ask(do="close")

    def run(self, count: int, rate: float | None, cpu: Cpu) -> Run:
        """Publish events, wait until all readers have all of theirs, and return the figures.

        Raises:
            RuntimeError: a reader has lost its stream or lacks an event, or has one twice.
        """
        each = len(self.paths) // len(self.streams)
        first, self._marks = self._marks, self._marks + count
        with cpu.counted(count * each):
            self.readers.tell(do="wait", events=count * each, seconds=_PATIENCE_SECONDS)
            self.writer.tell(streams=list(self.streams), first=first, count=count, rate=rate)
            written = self.writer.hear()
            read = self.readers.hear()
        self._check_open(read["open"])
        latencies, last = [], 0
        for mark, committed in written["commits"].items():
            arrivals = read["arrivals"].get(mark, [])
            if len(arrivals) != each:
                raise RuntimeError(f"event {mark} came {len(arrivals)} times to {each} readers")
            latencies += [(arrival - committed) / 1e9 for arrival in arrivals]
            last = max(last, *arrivals)
        return Run(latencies, (last - written["started"]) / 1e9)

    def _check_open(self, count: int) -> None:
        if count != len(self.paths):
            raise RuntimeError(f"{count} of {len(self.paths)} streams are open")
