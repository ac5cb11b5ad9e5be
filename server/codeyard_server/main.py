"""The composition root: read from top to bottom, it names every domain, adapter and job of a server process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import ipaddress
import pathlib
import signal
import sys
from typing import Any

import grpc
import structlog
import uvloop
from codeyard.agents.v1 import agent_service_pb2
from codeyard.capabilities.v1 import capability_service_pb2, mcp_server_service_pb2
from codeyard.models.v1 import model_service_pb2, provider_service_pb2
from codeyard.sessions.v1 import event_service_pb2, message_service_pb2, session_service_pb2
from codeyard.system.v1 import system_service_pb2
from codeyard_gateway.document import openapi_json
from codeyard_gateway.edge import Edge, EdgeSettings
from codeyard_gateway.swagger import CONTENT_SECURITY_POLICY, swagger_file
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from pydantic import SecretStr

from codeyard_server import settings as settings_module
from codeyard_server.accounts import AnonymousAuthenticator, ApiKeyAuthenticator, ensure_administrator
from codeyard_server.adapters.blob_stores import open_blob_store
from codeyard_server.adapters.deferred_mcp import DeferredMcpClient
from codeyard_server.adapters.html_converter import ProcessHtmlConverter
from codeyard_server.adapters.model_drivers import DriverPool, make_driver
from codeyard_server.adapters.outbound import AddressGuard, GuardedTransport
from codeyard_server.adapters.web_client import WebClient
from codeyard_server.agents.service import AgentService
from codeyard_server.blobs.ports import BlobStore
from codeyard_server.capabilities import (
    Catalogue,
    HeaderSecrets,
    McpServers,
    SessionFiles,
    builtin_capabilities,
    read_servers,
)
from codeyard_server.capabilities.service import CapabilityService, McpServerService
from codeyard_server.core import maintenance, telemetry
from codeyard_server.core.bus import Bus
from codeyard_server.core.caller import Authenticator
from codeyard_server.core.clock import utc_now
from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.idempotency import Idempotency
from codeyard_server.core.migrate import migrate
from codeyard_server.core.queue import Queue
from codeyard_server.core.rpc import Runtime
from codeyard_server.core.subscribe import Subscriptions
from codeyard_server.models import ProviderKeys, seed_simulator
from codeyard_server.models.service import ModelService, ProviderService
from codeyard_server.sessions import RUN_TURN, projection
from codeyard_server.sessions.service import EventService, MessageService, SessionService
from codeyard_server.settings import Settings, split_address
from codeyard_server.system.service import SystemService
from codeyard_server.turns import Cancellation, Generator, TurnRunner, TurnSettings
from codeyard_server.turns.drivers import ProviderDrivers
from codeyard_server.vault import MasterKey, Vault

log = structlog.get_logger(__name__)

GRPC_OPTIONS: list[tuple[str, Any]] = [
    # What the gateway's connections need: see docs/adr/0002-gateway.md.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.server.max_pending_requests", 30000),
    ("grpc.server.max_pending_requests_hard_limit", 30000),
    ("grpc.http2.bdp_probe", 0),
    # The gateway answers 431 above 32 KiB of headers; with the default of 8 KiB the server would say 429 before.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    ("grpc.so_reuseport", 0),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Core:
    """What every domain stands on."""

    database: Database
    fanout: FanOut
    events: EventLog
    queue: Queue
    bus: Bus
    idempotency: Idempotency
    subscriptions: Subscriptions

    @classmethod
    async def open(cls, dsn: str, settings: Settings, closers: contextlib.AsyncExitStack) -> Core:
        """Connect to the database and put the parts together."""
        database = await Database.connect(dsn, size=settings.database_pool_size)
        closers.push_async_callback(database.close)
        fanout = FanOut()
        events = EventLog(fanout)
        queue = Queue(concurrency=settings.turn_concurrency)
        bus = Bus(dsn, database, events, fanout)
        queue.attach(bus)
        return cls(database, fanout, events, queue, bus, Idempotency(database), Subscriptions(database, events, fanout))


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """Secrets, and the adapters that talk to the outside."""

    vault: Vault
    keys: ProviderKeys
    web: WebClient
    drivers: DriverPool
    mcp: DeferredMcpClient
    blobs: BlobStore

    @classmethod
    async def open(cls, settings: Settings, closers: contextlib.AsyncExitStack) -> Outside:
        """Make the adapters; only the blob store is contacted, so that a wrong setting shows at the start."""
        vault = Vault([MasterKey(key_id, key) for key_id, key in settings.master_keys])
        guard = AddressGuard(settings.web_allow)
        # Of its own: a model server that is admitted here must not be within reach of agents' tools.
        model_guard = AddressGuard(settings.model_allow)
        drivers = DriverPool(lambda config: make_driver(config, transport=GuardedTransport(model_guard)))
        mcp = DeferredMcpClient(guard)
        closers.push_async_callback(drivers.aclose)
        closers.push_async_callback(mcp.aclose)
        blobs = open_blob_store(
            settings.blob_url,
            access_key=_clear(settings.s3_access_key_id),
            secret_key=_clear(settings.s3_secret_access_key),
        )
        closers.push_async_callback(blobs.close)
        await blobs.prepare()
        return cls(vault, ProviderKeys(vault, settings.default_provider_keys), WebClient(guard), drivers, mcp, blobs)


class Server:
    """One server process, wired and started by :meth:`start`, ended by :meth:`stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.paths: list[str] = []
        """Every registered method, HTTP twins included."""
        self._dsn = settings.database_url.get_secret_value()
        self._tasks: list[asyncio.Task[None]] = []
        self._closers = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Migrate, wire everything, listen.

        Raises:
            OSError, asyncpg.PostgresError, MigrationError: the database cannot be used.
            BlobUnavailable: the blob store cannot be used.
        """
        for name in await migrate(self._dsn):
            log.info("migrated", file=name)
        core = self._core = await Core.open(self._dsn, self.settings, self._closers)
        outside = await Outside.open(self.settings, self._closers)
        authenticator = await self._accounts(core.database)
        await seed_simulator(core.database)

        self._grpc = grpc.aio.server(options=GRPC_OPTIONS)
        runtime = Runtime(self._grpc, authenticator, core.idempotency)
        catalogue, files = self._capabilities(core, outside, runtime)
        self._agents_and_models(core, outside, catalogue, runtime)
        self._turns = self._turn_runner(core, outside, catalogue, files)
        self._sessions(core, runtime)
        self._system(core, runtime)
        self._jobs(core)

        await self._listen(runtime)
        self._edge = Edge(
            EdgeSettings(
                address=self.settings.edge_socket,
                server=self.settings.socket,
                allowed_hosts=(*self.settings.allowed_hosts, *_own_host(self.settings.listen)),
                allowed_origins=self.settings.cors_allowed_origins,
            )
        )
        await self._edge.start()
        work = (core.bus.run(), core.queue.run(self._dsn), self._turns.keep_leases(), self._turns.sweep())
        self._tasks += [asyncio.create_task(each) for each in work]

    async def _accounts(self, database: Database) -> Authenticator:
        if self.settings.auth_mode == "none":
            log.warning("auth.none", text="everybody who reaches this server is an administrator")
            return AnonymousAuthenticator()
        assert self.settings.admin_key is not None
        await ensure_administrator(database, self.settings.admin_key.get_secret_value())
        return ApiKeyAuthenticator(database)

    def _capabilities(self, core: Core, outside: Outside, runtime: Runtime) -> tuple[Catalogue, SessionFiles]:
        secrets = HeaderSecrets(outside.vault)
        servers = McpServers(core.database, secrets, outside.mcp, read_servers(self.settings.mcp_config))
        catalogue = Catalogue(builtin_capabilities(outside.web, ProcessHtmlConverter()), servers)
        runtime.register(_service(capability_service_pb2, "CapabilityService"), CapabilityService(catalogue))
        runtime.register(
            _service(mcp_server_service_pb2, "McpServerService"),
            McpServerService(core.database, servers, secrets, utc_now),
        )
        return catalogue, SessionFiles(core.database, utc_now)

    @staticmethod
    def _agents_and_models(core: Core, outside: Outside, catalogue: Catalogue, runtime: Runtime) -> None:
        database = core.database
        runtime.register(_service(agent_service_pb2, "AgentService"), AgentService(database, catalogue, utc_now))
        runtime.register(
            _service(provider_service_pb2, "ProviderService"), ProviderService(database, outside.keys, utc_now)
        )
        runtime.register(_service(model_service_pb2, "ModelService"), ModelService(database, utc_now))

    def _turn_runner(self, core: Core, outside: Outside, catalogue: Catalogue, files: SessionFiles) -> TurnRunner:
        settings = TurnSettings(
            max_iterations=self.settings.turn_max_iterations,
            turn_timeout=self.settings.turn_timeout_seconds,
            lease=self.settings.turn_lease_seconds,
            model_attempts=self.settings.turn_model_retries + 1,
        )
        generator = Generator(ProviderDrivers(outside.drivers, outside.keys), core.fanout, settings)
        return TurnRunner(core.database, core.events, core.fanout, catalogue, files, generator, settings, utc_now)

    @staticmethod
    def _sessions(core: Core, runtime: Runtime) -> None:
        messages = MessageService(core.database, core.events, core.queue, utc_now)
        events = EventService(core.database, core.events, core.subscriptions)
        sessions = SessionService(
            core.database, core.events, core.fanout, Cancellation(core.fanout), messages, events, utc_now
        )
        runtime.register(_service(session_service_pb2, "SessionService"), sessions, {"Attach": projection.STREAM})
        runtime.register(_service(message_service_pb2, "MessageService"), messages)
        runtime.register(
            _service(event_service_pb2, "EventService"),
            events,
            {"Subscribe": projection.STREAM, "ListEvents": projection.LIST},
        )

    def _system(self, core: Core, runtime: Runtime) -> None:
        document = functools.cache(lambda: openapi_json(settings_module.VERSION))
        service = SystemService(
            core.database,
            swagger_file,
            CONTENT_SECURITY_POLICY,
            document,
            settings_module.VERSION,
            self.settings.auth_mode,
            utc_now,
        )
        runtime.register(_service(system_service_pb2, "SystemService"), service)

    def _jobs(self, core: Core) -> None:
        core.queue.handle(RUN_TURN, self._turns.handle)
        core.queue.schedule("maintenance.idempotency", "7 * * * *", core.idempotency.purge)
        core.queue.schedule(
            "maintenance.queue_log", "17 * * * *", functools.partial(maintenance.purge_queue_log, core.database)
        )

    async def _listen(self, runtime: Runtime) -> None:
        servicer = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._grpc)
        self.paths = runtime.paths
        names = sorted({path.split("/")[1] for path in runtime.paths})
        reflection.enable_server_reflection([*names, "grpc.health.v1.Health", reflection.SERVICE_NAME], self._grpc)
        address = self.settings.socket
        if address.startswith("/"):
            # A socket file of a process that was killed is in the way of its successor.
            pathlib.Path(address).unlink(missing_ok=True)  # noqa: ASYNC240 - before anything is served
            address = f"unix:{address}"
        self._grpc.add_insecure_port(address)
        await self._grpc.start()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        self._health = servicer

    async def stop(self) -> None:
        """End gracefully: no new calls, let go of turns, wait for calls that run, then close everything."""
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        self._core.queue.stop()
        with contextlib.suppress(Exception):
            await self._turns.close()
        await self._edge.stop()
        await self._grpc.stop(self.settings.shutdown_grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._closers.aclose()

    async def failed(self) -> None:
        """Return when a background task has ended, which none ever should."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            log.error("background.ended", task=task.get_name(), exc_info=task.exception())


def _own_host(listen: str) -> tuple[str, ...]:
    """Return the address on which the gateway listens as a Host header has it; nothing when it stands for any."""
    host = split_address(listen)[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return (host,)
    if address.is_unspecified:
        return ()
    return (f"[{address}]" if address.version == 6 else str(address),)


def _clear(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _service(module: Any, name: str) -> Any:
    return module.DESCRIPTOR.services_by_name[name]


def _settle_memory() -> None:
    """Leave what was loaded at the start out of garbage collection, and collect the rest less often.

    With the default of 700 new objects a collection came several times a turn, each walking all modules: a sixth of the
    main thread's time. What a call makes is freed by its reference counts; only cycles wait for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def serve(settings: Settings) -> int:
    """Run a server process until a signal; return its exit status."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = Server(settings)
    await server.start()
    _settle_memory()
    log.info("listening", socket=settings.socket, version=settings_module.VERSION)
    stop = asyncio.create_task(stopping.wait())
    failed = asyncio.create_task(server.failed())
    await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
    fault = failed.done()
    failed.cancel()
    stop.cancel()
    await server.stop()
    return 1 if fault else 0


def main() -> int:
    """Run one server process by its environment."""
    try:
        settings = settings_module.load_settings()
    except settings_module.SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    telemetry.configure_logging(settings.log_level, json_lines=settings.log_format == "json")
    telemetry.configure_tracing(
        settings.otel_endpoint, settings.otel_service_name, settings_module.VERSION, settings.otel_environment
    )
    telemetry.serve_metrics(settings.metrics_address)
    return uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
