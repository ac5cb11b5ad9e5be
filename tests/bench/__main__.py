"""Measure this yard and its peers, and print one table.

    python -m tests.bench                      everything, about eight minutes
    python -m tests.bench --only turns         one scenario; can be repeated
    python -m tests.bench --write              everything, and keep the table in docs/benchmarks.md

A figure that falls short is printed as it is. The exit status is 1 when a scenario could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from tests.bench import fanout, idle, listeners, report, rest_sessions, steps, turns
from tests.bench.figures import Row

SCENARIOS: dict[str, Callable[[], list[Row]]] = {
    "turns": turns.measure,
    "fanout": fanout.measure_many,
    "one-session": fanout.measure_one,
    "listeners": listeners.measure,
    "sessions": rest_sessions.measure,
    "steps": steps.measure,
    "idle": idle.measure,
}


def main() -> int:
    """Do what the command line says and return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--write", action="store_true", help="keep the table in docs/benchmarks.md")
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--write keeps the whole table: leave out --only")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    machine = report.facts()
    print("\n".join(machine), flush=True)
    rows, failed = _run(options.only or list(SCENARIOS))
    print(f"\n{report.table(rows)}\n\n{report.runs(rows)}")
    if options.write:
        report.PAGE.write_text(report.page(rows, _about(), machine))
    return int(failed)


def _run(names: Sequence[str]) -> tuple[list[Row], bool]:
    """Return the rows of the scenarios and whether one of them failed; a failed one has a row, too."""
    rows, failed = [], False
    for name in names:
        started = time.monotonic()
        try:
            found = SCENARIOS[name]()
        except Exception as problem:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            found, failed = [Row(name, "failed", repr(problem), held=False)], True
        rows += found
        print(f"\n{name}: {time.monotonic() - started:.0f} s\n{report.table(found)}", flush=True)
    return rows, failed


def _about() -> dict[str, list[str]]:
    """Return what is measured -> the names of the scenarios that do it: the docstrings of their modules."""
    about: dict[str, list[str]] = {}
    for name, measure in SCENARIOS.items():
        about.setdefault(importlib.import_module(measure.__module__).__doc__ or "", []).append(name)
    return about


if __name__ == "__main__":
    sys.exit(main())
