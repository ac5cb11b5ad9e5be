"""The migration runner: plain SQL files, one linear list, an advisory lock, checksums.

A file ``0001_name.sql`` runs in one transaction with the row that records it, so a crash leaves either both or neither.
A recorded file whose text has changed since stops the start: an applied migration is history.
"""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import re
import sys

import asyncpg

FOLDER = pathlib.Path(__file__).parents[1] / "migrations"
_FILE = re.compile(r"(\d{4})_\w+\.sql")
# Any constant will do; it must only differ from other users of advisory locks in this database.
_LOCK = 0x_C0DE_7A4D


class MigrationError(Exception):
    """The list of migrations and the database do not fit together."""


def migrations(folder: pathlib.Path = FOLDER) -> list[pathlib.Path]:
    """Return the files in order.

    Raises:
        MigrationError: a name is off, or a number is missing or taken twice.
    """
    files = sorted(folder.glob("*.sql"))
    for expected, file in enumerate(files, start=1):
        match = _FILE.fullmatch(file.name)
        if match is None or int(match[1]) != expected:
            raise MigrationError(f"{file.name}: expected number {expected:04d}, as in {expected:04d}_name.sql")
    return files


async def migrate(dsn: str, folder: pathlib.Path = FOLDER) -> list[str]:
    """Bring the database at dsn up to date and return the names that were applied. Safe to call from many processes.

    Raises:
        MigrationError: an applied file has changed or is gone.
        asyncpg.PostgresError: a statement failed; the file it is in left nothing behind.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        recorded = {
            row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM schema_migrations")
        }
        files = migrations(folder)
        if missing := recorded.keys() - {file.name for file in files}:
            raise MigrationError(f"applied but not in this version: {', '.join(sorted(missing))}")
        return [
            file.name
            for file in files
            if await _apply(connection, file.name, file.read_text(), recorded.get(file.name))
        ]
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection[asyncpg.Record], name: str, text: str, recorded: str | None) -> bool:
    digest = hashlib.sha256(text.encode()).hexdigest()
    if recorded is not None:
        if recorded != digest:
            raise MigrationError(f"{name} has changed since it was applied")
        return False
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute("INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", name, digest)
    return True


if __name__ == "__main__":
    for name in asyncio.run(migrate(sys.argv[1])):
        print(f"applied {name}")
