"""The migration runner, and the committed picture of the schema."""

from __future__ import annotations

import asyncio
import pathlib

import asyncpg
import pytest
from codeyard_server.core import migrate

from tests.support import schema

GOLDEN = pathlib.Path(migrate.__file__).parents[1] / "schema.sql"


async def test_migrate_applies_each_file_once_when_processes_start_together(empty_database_url: str) -> None:
    """Many processes may migrate at the same time; every file is applied by exactly one of them."""
    applied = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(5)))
    names = [file.name for file in migrate.migrations()]
    assert sorted(name for names_ in applied for name in names_) == names
    assert await migrate.migrate(empty_database_url) == []


async def test_migrate_refuses_a_file_that_changed_after_it_was_applied(
    empty_database_url: str, tmp_path: pathlib.Path
) -> None:
    """An applied migration is history."""
    file = tmp_path / "0001_first.sql"
    file.write_text("CREATE TABLE a (id integer)")
    assert await migrate.migrate(empty_database_url, tmp_path) == ["0001_first.sql"]
    file.write_text("CREATE TABLE a (id bigint)")
    with pytest.raises(migrate.MigrationError, match="has changed"):
        await migrate.migrate(empty_database_url, tmp_path)


async def test_migrate_leaves_nothing_of_a_file_that_fails(empty_database_url: str, tmp_path: pathlib.Path) -> None:
    """A file and the row that records it stand or fall together."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE a (id integer); SELECT 1/0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(empty_database_url, tmp_path)
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT to_regclass('a')") is None
    finally:
        await connection.close()


def test_migrations_must_be_one_unbroken_list(tmp_path: pathlib.Path) -> None:
    """A number that is missing or taken twice is found before anything runs."""
    (tmp_path / "0001_a.sql").touch()
    (tmp_path / "0003_b.sql").touch()
    with pytest.raises(migrate.MigrationError, match="0002"):
        migrate.migrations(tmp_path)


def test_migrated_schema_is_the_committed_one(database_url: str) -> None:
    """``schema.sql`` shows what the migrations make; `make gen` prints it anew."""
    assert schema.dump(database_url) == GOLDEN.read_text()
