"""The whole API against calls that schemathesis makes up from its OpenAPI document.

Streams and sockets are left out here and tested by name elsewhere. The run is deterministic: the same document gets the
same calls, in two rounds: with ids made up or seen in earlier answers, and with ids of existing objects.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import rest
from tests.support.world import World, new_world
from tests.support.yard import Yard, fresh_yard

CASES = 2000
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
NO_STREAMS = ["--exclude-path-regex", "/(events|attach)$"]


@pytest.fixture(scope="module")
def fuzzed_yard() -> Iterator[Yard]:
    """A yard of its own: what is made up here would disturb others."""
    yield from fresh_yard(processes=1)


def run(yard: Yard, folder: pathlib.Path, config: str, *options: str) -> dict[str, Any]:
    """Run schemathesis and return its report; its output is printed for a failure's message."""
    (folder / "schemathesis.toml").write_text(config, encoding="utf-8")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"),
        "run", f"{yard.url}/api-doc/openapi.json", "--header", f"Authorization: {yard.headers['authorization']}",
        "--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--checks", ",".join(CHECKS),
        "--continue-on-failure", "--request-timeout", "30", "--no-color", "--warnings", "off",
        "--report", "json", "--report-json-path", str(folder / "report.json"), *NO_STREAMS, *options,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    print(done.stdout, done.stderr)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def config_of(world: World) -> str:
    """Return a configuration in which every path parameter names an existing object."""
    # Also as a method that the document does not mention, DELETE would take the objects from the calls that follow.
    lines = ["[phases.coverage]", 'unexpected-methods = ["PUT"]', "[parameters]"]
    lines += [f'"path.{name}" = "{value}"' for name, value in world.values("").items() if name not in ("id", "path")]
    for place in ("agents", "llm-providers", "llm-models", "mcp-servers"):
        path = f"/v1/{place}/{{id}}"
        lines += [
            "[[operations]]",
            f'include-path = "{path}"',
            f'parameters = {{ "path.id" = "{world.values(path)["id"]}" }}',
        ]
    return "\n".join(lines)


def statuses(report: dict[str, Any]) -> dict[str, int]:
    """Return how many calls were taken, named nothing, and were refused."""
    counts = [phase for operation in report["valid_rates"].values() for phase in operation.values()]
    return {kind: sum(count[kind] for count in counts) for kind in ("accepted", "unreachable", "rejected")}


async def test_made_up_calls_get_documented_answers(fuzzed_yard: Yard, tmp_path: pathlib.Path) -> None:
    """No server error, no undocumented status, content type or header, no body that breaks its schema."""
    generated = 0
    for name in ("free", "existing"):
        async with rest(fuzzed_yard) as client:
            world = await new_world(client)
        folder = tmp_path / name
        folder.mkdir()
        config, options = (config_of(world), ["--exclude-method", "DELETE"]) if name == "existing" else ("", [])
        report = await asyncio.to_thread(run, fuzzed_yard, folder, config, "--max-examples", "30", *options)
        assert (report["failures"], report["errors"]) == ([], [])
        assert report["complete"] and report["exit_code"] == 0
        assert report["operations"]["tested"] == report["operations"]["selected"] > 0
        reached = statuses(report)
        assert reached["accepted"] > 200, reached
        generated += report["test_cases"]["generated"]
    assert generated >= CASES
    async with rest(fuzzed_yard) as client:
        await client.ok("GET", f"/v1/agents/{world.agent}/sessions/{world.session}")
        assert (await client.ok("GET", "/health"))["status"] == "ok"
    logs = [log.read_text(errors="replace") for log in fuzzed_yard.data.glob("log/server-*.log")]
    assert [line for log in logs for line in log.splitlines() if '"level": "error"' in line] == []
