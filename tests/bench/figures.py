"""Figures of a run: percentiles, CPU of processes, memory, and the line of the table that shows them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Sequence

RUNS = 5
"""How often everything is measured; every run is printed."""

_TICK = os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median_of(runs: Sequence[float]) -> float:
    """Return the median of several runs."""
    return statistics.median(runs)


def ratio_of(ours: Sequence[float], peers: Sequence[float]) -> float:
    """Return how many times the peer's figure ours is: the median over the pairs, which ran next to each other."""
    return statistics.median(our / peer for our, peer in zip(ours, peers, strict=True))


def flat(lists: Iterable[Iterable[float]]) -> list[float]:
    """Return the values of several lists as one."""
    return list(itertools.chain.from_iterable(lists))


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    return f"{seconds * 1000:.1f} ms" if abs(seconds) >= 0.001 else f"{seconds * 1_000_000:.0f} µs"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``bound`` says what was asked for, and ``held`` whether the figure keeps to it."""

    name: str
    median: str
    """Median of the runs, with its unit."""
    runs: str
    """The figure of every counted run, in the order of the runs; a peer's behind a bar."""
    p95: str = ""
    peer: str = ""
    """Median of the peer's runs, and the ratio."""
    bound: str = ""
    held: bool | None = None
    cpu: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return its cells as text, as :data:`HEAD` names them."""
        held = {True: "yes", False: "no", None: ""}[self.held]
        return self.name, self.median, self.p95, self.peer, self.bound, held, self.cpu


HEAD = ("Scenario", "Median of 5", "p95", "Peer, median of 5", "Asked for", "Held", "CPU per operation: app + database")


def listed(ours: Iterable[float], peers: Iterable[float] = (), digits: int = 0) -> str:
    """Return the figures of all runs as text."""
    parts = [", ".join(f"{value:,.{digits}f}" for value in values) for values in (ours, peers)]
    return " | ".join(part for part in parts if part)


class Cpu:
    """CPU seconds that an application and the database, with all that descends from them, use in counted blocks."""

    def __init__(self, application: Iterable[int], database: int) -> None:
        self._groups = (list(application), [database])
        self._used = [0.0, 0.0]
        self._operations = 0

    @contextlib.contextmanager
    def counted(self, operations: int) -> Iterator[None]:
        """Count what is used inside the block, which does this many operations."""
        before = [cpu_seconds(pids) for pids in self._groups]
        yield
        for place, pids in enumerate(self._groups):
            self._used[place] += cpu_seconds(pids) - before[place]
        self._operations += operations

    def per_operation(self) -> str:
        """Return the CPU of one operation: the application's, then the database's."""
        return " + ".join(duration(used / max(self._operations, 1)) for used in self._used)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes and their descendants have used so far, also those that have ended."""
    total = 0
    for pid in tree(pids):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # user, system, and both of children that were waited for
    return total / _TICK


def tree(pids: Iterable[int]) -> set[int]:
    """Return the processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found: set[int] = set()
    stack = list(pids)
    while stack:
        pid = stack.pop()
        if pid not in found:
            found.add(pid)
            stack += children.get(pid, [])
    return found


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
