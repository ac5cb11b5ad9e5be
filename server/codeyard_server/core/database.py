"""Postgres: one pool per process, transactions with callbacks after their commit, driver errors as failures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg

from codeyard_server.core import errors

# asyncpg has no type information.
Connection = Any
Pool = Any

# Text that Postgres cannot hold: bad UTF-8, and the NUL character in text and in jsonb.
_BAD_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_DOWN = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
)


async def keep_session(_connection: Connection) -> None:
    """Take a connection back as it is: nothing here changes a session, and the default reset costs a round trip."""


class Transaction:
    """An open transaction; ``after_commit`` collects what must happen only when it has held."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return all rows."""
        rows: list[asyncpg.Record] = await self.connection.fetch(query, *arguments)
        return rows

    async def row(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the first row, or None."""
        return await self.connection.fetchrow(query, *arguments)

    async def value(self, query: str, *arguments: Any) -> Any:
        """Return the first column of the first row, or None."""
        return await self.connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """Run a statement and return its command tag."""
        return str(await self.connection.execute(query, *arguments))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call callback once the transaction has committed; never when it has not. It must not raise."""
        self._after_commit.append(callback)

    def committed(self) -> None:
        """Run the callbacks."""
        for callback in self._after_commit:
            callback()


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Turn what the driver raises into failures: bad text is the caller's (400), a lost server is a 503."""
    try:
        yield
    except _BAD_TEXT as error:
        raise errors.InvalidArgument("A text holds a character that cannot be stored (NUL or invalid UTF-8)") from error
    except _DOWN as error:
        raise errors.Unavailable("The database cannot be reached") from error


class Database:
    """The pool of one process."""

    unavailable = (*_DOWN, errors.Unavailable)
    """What is raised when the database cannot be reached."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @classmethod
    async def connect(cls, dsn: str, *, size: int) -> Database:
        """Open a pool of at most size connections to the database at dsn.

        Raises:
            OSError, asyncpg.PostgresError: it cannot be reached.
        """
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min(4, size),
            max_size=size,
            # A statement that hangs for a minute is a fault; long work belongs into jobs.
            command_timeout=60,
            reset=keep_session,
            server_settings={"application_name": "codeyard", "jit": "off", "plan_cache_mode": "force_generic_plan"},
        )
        return cls(pool)

    async def close(self) -> None:
        """Close the pool; statements that run get five seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.pool.close()
                return
        self.pool.terminate()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction (read committed). It commits when the block ends, and rolls back when it raises."""
        with driver_errors():
            async with self.pool.acquire() as connection:
                transaction = Transaction(connection)
                async with connection.transaction():
                    yield transaction
        transaction.committed()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Transaction]:
        """Lend a connection in autocommit mode, for a single statement; its callbacks run when the block ends."""
        with driver_errors():
            async with self.pool.acquire() as connection:
                transaction = Transaction(connection)
                yield transaction
        transaction.committed()
