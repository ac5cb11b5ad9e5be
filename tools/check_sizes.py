"""Fail when a file or function is too long, or when a file names the host of a package registry.

    python tools/check_sizes.py

Limits in lines: ``service.py`` 400, ``logic.py`` 300, any other hand-written source file 600, a Python function 50
without its docstring. Registries belong into the settings of the machine: a host in a lock file ties all to one mirror.
"""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]

MAX_FUNCTION = 50
MAX_FILE = 600
MAX_BY_NAME = {"service.py": 400, "logic.py": 300}
SOURCES = {".py", ".proto", ".lua", ".ts", ".tsx", ".go", ".sql", ".sh", ".js"}
GENERATED = re.compile(r"(^|/)(gen|generated|vendor)/|_pb2|schema\.sql$")

# Written as (name, domain), so that this file does not hold what it forbids.
_HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("crates", "io"),
    ("proxy.golang", "org"),
    ("sum.golang", "org"),
    ("repo.maven.apache", "org"),
    ("repo1.maven", "org"),
    ("deb.debian", "org"),
    ("security.debian", "org"),
    ("archive.ubuntu", "com"),
    ("rubygems", "org"),
)
_HOST = re.compile(
    rb"(?<![\w-])(?:" + b"|".join(re.escape(".".join(host)).encode() for host in _HOSTS) + rb")(?![\w-])"
)


def project_files() -> list[pathlib.Path]:
    """Return every file that is committed or about to be: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    files = (ROOT / name for name in shown.split("\0") if name)
    return sorted(path for path in files if path.is_file())


def problems_of(path: pathlib.Path) -> Iterator[str]:
    """Yield what is wrong with one file, each as ``path:line: text``."""
    name = path.relative_to(ROOT).as_posix()
    content = path.read_bytes()
    for match in _HOST.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        yield f"{name}:{line}: names the package registry {match[0].decode()}"
    if path.suffix not in SOURCES or GENERATED.search(name):
        return
    lines, limit = content.count(b"\n"), MAX_BY_NAME.get(path.name, MAX_FILE)
    if lines > limit:
        yield f"{name}:1: {lines} lines, at most {limit}"
    if path.suffix == ".py":
        yield from (f"{name}:{text}" for text in _long_functions(content))


def _long_functions(content: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _end(node) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                lines -= _end(node.body[0]) - node.body[0].lineno + 1
            if lines > MAX_FUNCTION:
                yield f"{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION}"


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def main() -> int:
    """Print every problem and return the exit status."""
    problems = [problem for path in project_files() for problem in problems_of(path)]
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
