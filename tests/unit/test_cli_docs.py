"""docs/cli.md says everything that the command line can do."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from codeyard_cli import failures
from codeyard_cli.main import app

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMON = {"--url", "--token", "--output", "-o", "--help"}
# What docs/operations.md describes.
OF_THE_YARD = {"up", "status", "down", "server"}


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its path."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


COMMANDS = {path: command for path, command in commands(typer.main.get_command(app)) if path not in OF_THE_YARD}


@pytest.mark.parametrize("path", COMMANDS)
def test_command_is_documented_when_it_exists(path: str) -> None:
    """Each command has a row, with its arguments and options."""
    (row,) = re.findall(rf"^\| `{path}(?: [^`]*)?` \|.*$", PAGE, re.MULTILINE)
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts if name.startswith("-")} - COMMON
    if path == "agent update":
        row += re.findall(r"^\| `agent create .*$", PAGE, re.MULTILINE)[0]
    elif path.startswith(("session ", "events")) and "--agent" in options:
        options.remove("--agent")
    missing = [option for option in sorted(options) if f"`{option}" not in row]
    assert not missing


def test_page_names_no_command_when_it_does_not_exist() -> None:
    """A row that has outlived its command is found."""
    rows = re.findall(r"^\| `([a-z -]+?)(?: [\[A-Z].*?)?` \|", PAGE, re.MULTILINE)
    assert sorted(set(rows)) == sorted(COMMANDS)


def test_exit_statuses_are_documented_when_they_are_used() -> None:
    """The page, the module's own table and the constants agree."""
    names = ("FAILED", "USAGE", "NO_CONNECTION", "NOT_FOUND", "TURN_FAILED", "INTERRUPTED")
    used = {0, *(getattr(failures, name) for name in names)}
    page = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    module = {int(number) for number in re.findall(r"^(\d+)  ", failures.__doc__ or "", re.MULTILINE)}
    assert page == module == used
