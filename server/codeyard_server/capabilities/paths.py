"""Rules of a session's files: paths, quotas, globs, and the search of lines."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

# RE2 matches in time linear in the text, so that no pattern of a model can hold up the process, which Python's own
# engine cannot promise; it is also the syntax of most code search. Ignored: it has no types.
import re2  # type: ignore[import-untyped]

from codeyard_server.capabilities.ports import GrepMatch, ToolError

MAX_FILE_BYTES = 1024 * 1024
MAX_SESSION_BYTES = 50 * 1024 * 1024
MAX_ENTRIES = 1000
"""Files and directories of one session together."""
MAX_PATH_BYTES = 1024
MAX_MATCHES = 1000
"""A search ends at so many matching lines."""
MAX_LINE_CHARACTERS = 500
"""A longer matching line is cut."""
MAX_SEARCH_SECONDS = 10.0

_GLOB_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")


def normalise(path: str) -> str:
    """Return a path as it is stored: "/" for the root, else without a slash at the end.

    Raises:
        ToolError: it is relative, has an empty, "." or ".." segment, a NUL, or is too long.
    """
    if not path.startswith("/"):
        raise ToolError(f"The path must be absolute: /{path[:200]}")
    if path == "/":
        return path
    path = path.removesuffix("/")
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise ToolError("The path is not valid text") from error
    if size > MAX_PATH_BYTES:
        raise ToolError(f"The path is longer than {MAX_PATH_BYTES} bytes")
    if "\0" in path:
        raise ToolError("The path contains a NUL character")
    if any(segment in ("", ".", "..") for segment in path[1:].split("/")):
        raise ToolError('The path contains an empty, "." or ".." segment')
    return path


def writable(path: str) -> str:
    """Return a normalised path at which a file may be created.

    Raises:
        ToolError: as normalise; or it is the root, or a segment starts with "_", which is reserved.
    """
    path = normalise(path)
    if path == "/":
        raise ToolError("/ is a directory")
    if "/_" in path:
        raise ToolError('Names that start with "_" are reserved')
    return path


def ancestors(path: str) -> Sequence[str]:
    """Return the directories above a path, outermost first, without the root."""
    segments = path[1:].split("/")[:-1]
    return ["/" + "/".join(segments[: depth + 1]) for depth in range(len(segments))]


def prefix(directory: str) -> str:
    """Return what the paths inside a directory begin with."""
    return "/" if directory == "/" else f"{directory}/"


def compile_pattern(pattern: str) -> re2._Regexp:
    """Return a regular expression for lines.

    Raises:
        ToolError: it is not one in RE2's syntax, or too large.
    """
    return _compile(
        pattern, "The regular expression is not valid (RE2 syntax, without look-around and back-references)"
    )


def select(paths: Iterable[str], glob: str | None) -> list[str]:
    """Return the paths that match a glob, all without one.

    ``*`` and ``?`` stay within a segment, ``**`` crosses them. Without a slash it is compared with the name in any
    directory, else with the whole path.

    Raises:
        ToolError: it is not valid text.
    """
    if glob is None:
        return list(paths)
    by_name = "/" not in glob
    if not by_name and not glob.startswith(("/", "*")):
        glob = f"/{glob}"
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = (translated.get(part) or re2.escape(part) for part in _GLOB_PARTS.findall(glob))
    matcher = _compile(f"(?s)\\A{''.join(parts)}\\z", "path_pattern is not valid")
    return [path for path in paths if matcher.search((path.rpartition("/")[2] if by_name else path).encode())]


def search(pattern: re2._Regexp, files: Iterable[tuple[str, bytes]], room: int, deadline: float) -> list[GrepMatch]:
    """Return up to ``room`` matching lines of text files, in order. Blocks; for a thread.

    Args:
        files: paths and contents; one with a NUL in its first 8192 bytes or without valid UTF-8 is passed over.
        deadline: when to give up, on time.monotonic.

    Raises:
        ToolError: the time is up.
    """
    found: list[GrepMatch] = []
    for path, content in files:
        if b"\0" in content[:8192] or not _is_utf8(content):
            continue
        for number, line in enumerate(content.split(b"\n"), start=1):
            if number % 1024 == 1 and time.monotonic() > deadline:
                raise ToolError("The search takes too long; narrow it down with path_pattern")
            if pattern.search(line.removesuffix(b"\r")) is not None:
                text = line.removesuffix(b"\r").decode()
                found.append(GrepMatch(path, number, text[:MAX_LINE_CHARACTERS]))
                if len(found) >= room:
                    return found
    return found


def _compile(pattern: str, problem: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise ToolError(problem) from error


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
