"""Rules of session files: paths, globs and the search of lines."""

from __future__ import annotations

import time

import pytest
from codeyard_server.capabilities import paths
from codeyard_server.capabilities.ports import GrepMatch, ToolError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("given_path", "stored"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a/b.txt", "/a/b.txt"),
        ("/a b/ü", "/a b/ü"),
        ("/...", "/..."),
        ("/_x", "/_x"),
    ],
)
def test_path_is_stored_without_a_slash_at_its_end(given_path: str, stored: str) -> None:
    """A path is kept as it is but for one final slash."""
    assert paths.normalise(given_path) == stored


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "a/b",
        "./a",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/..",
        "/a/../b",
        "/a/..",
        "/.",
        "/./a",
        "/a\0b",
        "/\ud800",
        "/" + "é" * 513,
    ],
)
def test_path_is_refused_when_it_is_not_absolute_and_plain(path: str) -> None:
    """Relative paths, empty and dot segments, NUL, broken text and over-long paths are errors."""
    with pytest.raises(ToolError):
        paths.normalise(path)


@pytest.mark.parametrize("path", ["/", "/_", "/_/stat", "/a/_b", "/_a/b"])
def test_path_is_not_writable_when_it_is_the_root_or_reserved(path: str) -> None:
    """Segments that start with an underscore are kept for the API."""
    with pytest.raises(ToolError):
        paths.writable(path)


def test_path_is_writable_when_an_underscore_is_not_first() -> None:
    """Only the beginning of a segment is reserved."""
    assert paths.writable("/a_b/c_") == "/a_b/c_"


@given(st.text(max_size=40))
def test_normalise_accepts_only_what_it_returns_unchanged(text: str) -> None:
    """What comes out is a fixed point, absolute, without empty or dot segments."""
    try:
        path = paths.normalise(text)
    except ToolError:
        return
    assert paths.normalise(path) == path
    assert path.startswith("/")
    assert path == "/" or not {"", ".", ".."} & set(path[1:].split("/"))
    assert all(path.startswith(f"{directory}/") for directory in paths.ancestors(path))


def test_ancestors_are_listed_from_the_outside() -> None:
    """Parents are created in this order."""
    assert paths.ancestors("/a/b/c.txt") == ["/a", "/a/b"]
    assert paths.ancestors("/c.txt") == []


ALL = ["/a.md", "/b.txt", "/src/a.py", "/src/deep/er/b.py", "/src/deep/[x].py"]


@pytest.mark.parametrize(
    ("glob", "selected"),
    [
        (None, ALL),
        ("*.md", ["/a.md"]),
        ("*.py", ["/src/a.py", "/src/deep/er/b.py", "/src/deep/[x].py"]),
        ("?.txt", ["/b.txt"]),
        ("/*.md", ["/a.md"]),
        ("/src/*.py", ["/src/a.py"]),
        ("src/*.py", ["/src/a.py"]),
        ("/src/**/*.py", ["/src/a.py", "/src/deep/er/b.py", "/src/deep/[x].py"]),
        ("**/er/*", ["/src/deep/er/b.py"]),
        ("/src/**", ["/src/a.py", "/src/deep/er/b.py", "/src/deep/[x].py"]),
        ("[x].py", ["/src/deep/[x].py"]),
        ("a", []),
        ("(.*)", []),
        ("*a*.p*y*", ["/src/a.py"]),
    ],
)
def test_glob_selects_by_name_or_by_path(glob: str | None, selected: list[str]) -> None:
    """Without a slash the name counts, else the path; only *, ** and ? are special."""
    assert paths.select(ALL, glob) == selected


def found(pattern: str, *contents: bytes, room: int = 100) -> list[GrepMatch]:
    """Search files /0, /1, … with these contents."""
    files = [(f"/{number}", content) for number, content in enumerate(contents)]
    return paths.search(paths.compile_pattern(pattern), files, room, time.monotonic() + 60)


def test_search_finds_lines_with_their_numbers() -> None:
    """A line is searched on its own, without its line end; anchors mean the line's."""
    assert found("^b.*é$", b"a\nbc\xc3\xa9\r\nxb\xc3\xa9", b"b\xc3\xa9") == [
        GrepMatch("/0", 2, "bcé"),
        GrepMatch("/1", 1, "bé"),
    ]


def test_search_passes_over_binary_files() -> None:
    """A NUL at the beginning, or bytes that are no UTF-8, make a file binary."""
    assert found("a", b"a\0", b"a\xff", b"a") == [GrepMatch("/2", 1, "a")]


def test_search_ends_when_the_room_is_used_up() -> None:
    """No more lines are returned than asked for."""
    assert len(found("x", b"x\n" * 50, b"x", room=20)) == 20


def test_search_cuts_a_long_line() -> None:
    """A match inside a huge line does not return all of it."""
    (match,) = found("needle", b"y" * 10_000 + b"needle")
    assert match.line == "y" * paths.MAX_LINE_CHARACTERS


def test_search_stays_linear_when_the_pattern_is_meant_to_explode() -> None:
    """A pattern that takes a backtracking engine for ever is just a pattern."""
    assert found("(a+)+$|(a|aa)+$|(.*,){20}x", b"a" * 500_000 + b"b") == []


def test_search_gives_up_when_the_time_is_over() -> None:
    """The model is told to narrow the search down."""
    with pytest.raises(ToolError, match="takes too long"):
        paths.search(paths.compile_pattern("x"), [("/a", b"y")], 10, time.monotonic() - 1)


@pytest.mark.parametrize("pattern", ["(", "a{1001}", "((a{100}){100}){100}", "(?=x)", "\\1", "*", "[z-a]", "\ud800"])
def test_pattern_is_refused_when_re2_does_not_take_it(pattern: str) -> None:
    """Broken, oversized and look-around patterns are errors the model can read."""
    with pytest.raises(ToolError, match="regular expression"):
        paths.compile_pattern(pattern)
