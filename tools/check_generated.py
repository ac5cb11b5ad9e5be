"""Fail when a committed generated file differs from what ``make gen`` writes now.

    python tools/check_generated.py

It compares the files before and after, not with git, so that it works in the middle of a change. What differed is left
renewed: look at it and commit it.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]

GENERATED = ("proto/api.txtpb", "docs/settings.md", "gateway/generated/*", "clients/*/**/gen/**/*")


def snapshot() -> dict[str, bytes]:
    """Return the content of every committed generated file by its path."""
    files = (path for pattern in GENERATED for path in ROOT.glob(pattern) if "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files if path.is_file()}


def main() -> int:
    """Run ``make gen``, name the files that it changed, and return the exit status."""
    before = snapshot()
    subprocess.run(["make", "gen"], cwd=ROOT, check=True)
    after = snapshot()
    stale = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in stale:
        print(f"{name}: was not what `make gen` writes; it is now", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
