"""The examples that the README names, run as a reader runs them."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.support.yard import Yard

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_the_answer(yard: Yard, example: pathlib.Path) -> None:
    """Each example has its message answered."""
    environment = {**os.environ, "CODEYARD_URL": yard.url, "CODEYARD_TOKEN": yard.token}
    done = subprocess.run([sys.executable, example], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "simulated model" in done.stdout


def test_three_lines_that_the_yard_prints_lead_to_an_answer(yard: Yard) -> None:
    """Pasted into a shell, they create an agent, open a session and send a message; the stream shows the answer."""
    lines = [line for line in yard.printed.splitlines() if re.match(r"(YARD=|SESSION=|curl )", line)]
    assert len(lines) == 4
    *paste, follow = lines
    script = "\n".join([*paste, f"{follow} | grep -m 1 -B 20 turn.completed"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "event: turn.completed" in done.stdout, done.stderr
    assert "simulated model" in done.stdout


def test_every_example_is_named_in_the_readme() -> None:
    """A reader finds them."""
    readme = (ROOT / "README.md").read_text()
    assert all(f"docs/examples/{example.name}" in readme for example in EXAMPLES)
