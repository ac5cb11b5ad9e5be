"""Run a yard: PostgreSQL, the server processes, Envoy, in this order up and in the opposite order down."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import resource
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence

from codeyard_gateway.settings import GatewaySettings

from codeyard_server.settings import Settings, SettingsError, load_settings
from codeyard_server.supervisor import errors, gateway, logs, postgres, state
from codeyard_server.supervisor.layout import Layout
from codeyard_server.supervisor.processes import Child, Program, Say
from codeyard_server.supervisor.secrets import load_secrets
from codeyard_server.supervisor.servers import SERVER_COMMAND, server_program
from codeyard_server.supervisor.state import YardState, YardStatus

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_PROCESSES = 2

# Readers of events hold a descriptor each, in Envoy and in a server. More slow down programs that close all of them.
_MAX_OPEN_FILES = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class YardOptions:
    """How to run a yard."""

    layout: Layout
    host: str = DEFAULT_HOST
    """IP address of the public port."""
    port: int = DEFAULT_PORT
    """The public port; 0 takes one that is free."""
    processes: int = DEFAULT_PROCESSES
    """How many server processes."""
    server_command: Sequence[str] = SERVER_COMMAND
    """What a server process runs; tests put another program in its place."""


class Yard:
    """A yard whose data folder this process holds.

    Args:
        options: how to run it.
        say: tells the administrator a line.
    """

    def __init__(self, options: YardOptions, say: Say) -> None:
        self._options = options
        self._layout = options.layout
        self._say = say
        self._state: YardState = "starting"
        self._url: str | None = None
        self._token: str | None = None
        self._postgres: Child | None = None
        self._servers: list[Child] = []
        self._envoy: Child | None = None
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> YardStatus:
        """What the yard and its processes do now."""
        children = [self._postgres, *self._servers, self._envoy]
        return YardStatus(
            data=str(self._layout.data),
            state=self._state,
            url=self._url,
            token=self._token,
            supervisor=os.getpid(),
            processes=tuple(child.status for child in children if child is not None),
        )

    async def start(self) -> None:
        """Start everything and return when it is ready.

        Raises:
            YardError: something cannot start; what did start is still to be stopped.
        """
        self._publish()
        secrets = load_secrets(self._layout)
        overrides, settings, cluster = await self._prepare(secrets)
        gateway_options = gateway.gateway_settings(self._layout, settings, self._options.processes)
        config = asyncio.create_task(asyncio.to_thread(gateway.write_config, self._layout, gateway_options))
        try:
            if cluster is not None:
                self._postgres = await self._launch(cluster.program())
            await self._start_servers(overrides, settings)
            await self._start_envoy(gateway_options, await config)
        finally:
            config.cancel()
        self._state = "ready"
        self._publish()

    async def failed(self) -> None:
        """Return only by raising: when keeping a program running has failed in a way that nobody foresaw."""
        while self._watches:
            done, _ = await asyncio.wait(self._watches, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._watches.discard(task)
                task.result()

    async def stop(self) -> None:
        """Stop everything: no new calls, then the servers with their grace, then the gateway, then the database."""
        self._state = "stopping"
        self._publish()
        if self._envoy is not None:
            await gateway.drain(self._layout)
        await asyncio.gather(*(server.stop() for server in self._servers))
        for child in (self._envoy, self._postgres):
            if child is not None:
                await child.stop()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._layout.clear_run()

    async def _prepare(self, secrets: Mapping[str, str]) -> tuple[dict[str, str], Settings, postgres.Cluster | None]:
        """Return what the servers are told, the settings that makes, and the database to start unless there is one."""
        options = self._options
        try:
            ipaddress.ip_address(options.host)
        except ValueError:
            raise errors.BadSettings(f"--host {options.host} is not an IP address") from None
        port = gateway.free_port(options.host, options.port)
        host = f"[{options.host}]" if ":" in options.host else options.host
        # What can be set in the environment wins over the file, and both win over what we would choose.
        self._url = f"http://{_reachable(options.host)}:{port}"
        defaults = {"BASE_URL": self._url, "CODEYARD_BLOB_URL": self._layout.blobs.as_uri(), **secrets}
        overrides = {name: value for name, value in defaults.items() if not os.environ.get(name)}
        own = {"CODEYARD_LISTEN": f"{host}:{port}", "CODEYARD_SOCKET": str(self._layout.server_socket(0))}
        overrides |= {**own, "CODEYARD_EDGE_SOCKET": str(self._layout.edge_socket(0))}
        cluster: postgres.Cluster | None = None
        embedded = not (os.environ.get("DATABASE_URL") or secrets.get("DATABASE_URL"))
        # Looked at before the database is touched, with the address it is going to have.
        settings = _load({**overrides, "DATABASE_URL": "postgresql:///embedded"} if embedded else overrides)
        if embedded:
            connections = options.processes * settings.database_pool_size
            cluster = await postgres.prepare(self._layout, secrets, connections)
            overrides["DATABASE_URL"] = cluster.url
        if settings.auth_mode != "none" and settings.admin_key is not None:
            self._token = settings.admin_key.get_secret_value()
        # The servers sign in as the database's ordinary user; the administrator's password stays here.
        overrides.pop("CODEYARD_DB_PASSWORD", None)
        overrides.pop("CODEYARD_DB_ADMIN_PASSWORD", None)
        return overrides, settings, cluster

    async def _start_servers(self, overrides: Mapping[str, str], settings: Settings) -> None:
        for number in range(self._options.processes):
            program = server_program(
                self._layout, number, self._options.server_command, overrides, settings.shutdown_grace_seconds
            )
            self._servers.append(self._child(program))
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start())
        except* errors.YardError as failures:
            raise failures.exceptions[0] from None
        for server in self._servers:
            self._watch(server)

    async def _start_envoy(self, settings: GatewaySettings, config: pathlib.Path) -> None:
        # Again: the servers took seconds, and this time nothing would tell.
        gateway.free_port(settings.listen_address, settings.port)
        self._envoy = await self._launch(gateway.envoy_program(self._layout, settings, config))

    async def _launch(self, program: Program) -> Child:
        child = self._child(program)
        try:
            await child.start()
        except BaseException:
            await asyncio.shield(child.stop())
            raise
        self._watch(child)
        return child

    def _child(self, program: Program) -> Child:
        return Child(program, self._layout.logs / f"{program.name}.log", self._say, self._publish)

    def _watch(self, child: Child) -> None:
        self._watches.add(asyncio.create_task(child.keep_running(), name=child.program.name))

    def _publish(self) -> None:
        state.publish(self._layout, self.status)


async def run_yard(options: YardOptions, say: Say, ready: Say, started: float) -> None:
    """Run a yard until SIGINT, SIGTERM or SIGHUP, and return when nothing of it is left.

    Args:
        options: how to run it.
        say: tells a line of progress.
        ready: told the summary, which holds the token, once the yard is ready.
        started: ``time.monotonic()`` of the command's start.

    Raises:
        YardError: it cannot start, or a program could not be kept running.
    """
    from codeyard_server.supervisor.report import summary

    if sys.platform != "linux":
        raise errors.YardError("a yard needs Linux: run it in a virtual machine, or the servers in containers")
    os.umask(0o077)
    _raise_open_files()
    options.layout.create()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with state.hold(options.layout):
        options.layout.clear_run()
        logs.rotate(options.layout.logs)
        yard = Yard(options, say)
        rotation = asyncio.create_task(logs.keep_small(options.layout.logs))
        try:
            if await _until(stopping, yard.start()):
                say(f"ready in {time.monotonic() - started:.2f} s")
                ready(summary(yard.status))
                await _until(stopping, yard.failed())
            say("stopping")
        finally:
            rotation.cancel()
            await yard.stop()
        say("stopped")


async def _until(stopping: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work and return True; return False, with the work cancelled, when the signal comes first."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for pending in (task, stop):
            pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, errors.YardError):
            await task


def _load(overrides: Mapping[str, str]) -> Settings:
    try:
        return load_settings(overrides)
    except SettingsError as error:
        raise errors.BadSettings(str(error)) from error


def _reachable(host: str) -> str:
    """Return an address to call a listening address by."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    return f"[{host}]" if ":" in host else host


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
