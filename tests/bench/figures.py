"""Figures of a run: percentiles, CPU of processes, memory."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Iterable, Sequence

_TICK = os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``bound`` says what was asked for, and ``held`` whether the figure keeps to it."""

    name: str
    figure: str
    bound: str = ""
    held: bool | None = None
    cpu: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return its cells as text."""
        return self.name, self.figure, self.bound, {True: "yes", False: "no", None: ""}[self.held], self.cpu


class Cpu:
    """CPU seconds that processes and their children use from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._start = self._seconds()
        self._clock = time.perf_counter()

    def _seconds(self) -> float:
        total = 0
        for pid in tree(self._pids):
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / _TICK

    def per(self, operations: int) -> str:
        """Return the CPU of one operation."""
        return f"{(self._seconds() - self._start) / max(operations, 1) * 1000:.2f} ms"


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


def median_of(runs: Sequence[float]) -> float:
    """Return the median of several runs."""
    return statistics.median(runs)
