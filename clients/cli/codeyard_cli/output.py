"""Printing: tables for people, JSON for scripts.

What a yard says may come from a model or from another user. On a terminal it is printed without control characters, so
that it cannot rewrite the screen, set the title or fill the clipboard.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codeyard_cli.yard import Output

_FRACTION = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d+(?=Z$)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return a text without what a terminal would obey: control characters and bidirectional overrides."""
    return _CONTROL.sub("", text)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that keeps letters of any script, and escapes what a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Inside strings only: between them there are no such characters.
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value; without indentation it is one line, flushed at once."""
    print(json_text(value, indent), flush=indent is None)


def print_whatever_the_encoding() -> None:
    """Let characters that this terminal does not have be printed as their code, not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(message: Any, output: Output) -> None:
    """Print one object: its JSON, or its members one below the other."""
    from codeyard_client import to_json

    members: Mapping[str, Any] = to_json(message)
    if output is Output.JSON:
        print_json(members)
        return
    width = max(map(len, members), default=0)
    for name, value in members.items():
        print(f"{name:<{width}}  {_cell(value)}")


def show_list(messages: Iterable[Any], output: Output, columns: Mapping[str, str]) -> None:
    """Print objects: a JSON array, or a table. ``columns``: title -> member."""
    from codeyard_client import to_json

    items = [to_json(message) for message in messages]
    if output is Output.JSON:
        print_json(items)
    else:
        rows = [[_FRACTION.sub("", _cell(item.get(member))) for member in columns.values()] for item in items]
        print_table(columns, rows)


def print_table(titles: Iterable[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below titles. On a terminal, long texts are folded; a pipe gets one line per row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Rich would break the lines of a pipe after 80 characters.
    wide = None if sys.stdout.isatty() else 10_000
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=title == "ID", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell if wide is None else cell.replace("\n", " ")) for cell in row))
    Console(width=wide, highlight=False).print(table)


def short(text: str, limit: int | None = None) -> str:
    """Return a text on one line, cut to the width of the terminal, or to a number of characters."""
    line = " ".join(clean(text).split())
    limit = limit or shutil.get_terminal_size().columns
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return clean(", ".join(value))
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
