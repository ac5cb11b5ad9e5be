"""The composition root: read from top to bottom, it names every domain, adapter and job of a server process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
from codeyard_gateway.swagger import swagger_file
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from codeyard_server import settings as settings_module
from codeyard_server.accounts import AnonymousAuthenticator, ApiKeyAuthenticator, ensure_administrator
from codeyard_server.adapters.deferred_mcp import DeferredMcpClient
from codeyard_server.adapters.html_converter import ProcessHtmlConverter
from codeyard_server.adapters.model_drivers import DriverPool
from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.adapters.web_client import WebClient
from codeyard_server.agents.service import AgentService
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
from codeyard_server.settings import Settings
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
    ("grpc.so_reuseport", 0),
]


class Server:
    """One server process, wired and started by :meth:`start`, ended by :meth:`stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._tasks: list[asyncio.Task[None]] = []
        self._closers = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Migrate, wire everything, listen.

        Raises:
            OSError, asyncpg.PostgresError, MigrationError: the database cannot be used.
        """
        settings = self.settings
        for name in await migrate(self._dsn):
            log.info("migrated", file=name)
        self._database = database = await Database.connect(self._dsn, size=settings.database_pool_size)
        self._closers.push_async_callback(database.close)

        # Core
        fanout = FanOut()
        events = EventLog(fanout)
        self._queue = queue = Queue(concurrency=settings.turn_concurrency)
        bus = Bus(self._dsn, database, events, fanout)
        queue.attach(bus)
        idempotency = Idempotency(database)
        subscriptions = Subscriptions(database, events, fanout)

        # Secrets and outbound connections
        vault = Vault([MasterKey(key_id, key) for key_id, key in settings.master_keys])
        keys = ProviderKeys(vault, settings.default_provider_keys)
        guard = AddressGuard(settings.web_allow)
        driver_pool = DriverPool()
        self._closers.push_async_callback(driver_pool.aclose)
        mcp_connections = DeferredMcpClient(guard)
        self._closers.push_async_callback(mcp_connections.aclose)

        # Domains
        files = SessionFiles(database, utc_now)
        header_secrets = HeaderSecrets(vault)
        configured = read_servers(settings.mcp_config) if settings.mcp_config else ()
        mcp_servers = McpServers(database, header_secrets, mcp_connections, configured)
        catalogue = Catalogue(builtin_capabilities(WebClient(guard), ProcessHtmlConverter()), mcp_servers)
        turn_settings = TurnSettings(
            max_iterations=settings.turn_max_iterations,
            turn_timeout=settings.turn_timeout_seconds,
            lease=settings.turn_lease_seconds,
            model_attempts=settings.turn_model_retries + 1,
        )
        generator = Generator(ProviderDrivers(driver_pool, keys), fanout, turn_settings)
        self._turns = TurnRunner(database, events, fanout, catalogue, files, generator, turn_settings, utc_now)
        cancellation = Cancellation(fanout)
        messages = MessageService(database, events, queue, utc_now)
        stream = EventService(database, events, subscriptions)

        # Jobs
        queue.handle(RUN_TURN, self._turns.handle)
        queue.schedule("maintenance.idempotency", "7 * * * *", idempotency.purge)
        queue.schedule("maintenance.queue_log", "17 * * * *", lambda: maintenance.purge_queue_log(database))

        # First start
        authenticator = await self._accounts(database)
        await seed_simulator(database)

        # RPCs
        self._grpc = server = grpc.aio.server(options=GRPC_OPTIONS)
        runtime = Runtime(server, authenticator, idempotency)
        register = runtime.register
        register(_service(agent_service_pb2, "AgentService"), AgentService(database, catalogue, utc_now))
        register(_service(capability_service_pb2, "CapabilityService"), CapabilityService(catalogue))
        register(
            _service(mcp_server_service_pb2, "McpServerService"),
            McpServerService(database, mcp_servers, header_secrets, utc_now),
        )
        register(_service(provider_service_pb2, "ProviderService"), ProviderService(database, keys, utc_now))
        register(_service(model_service_pb2, "ModelService"), ModelService(database, utc_now))
        register(
            _service(session_service_pb2, "SessionService"),
            SessionService(database, events, fanout, cancellation, messages, stream, utc_now),
            {"Attach": projection.STREAM},
        )
        register(_service(message_service_pb2, "MessageService"), messages)
        register(
            _service(event_service_pb2, "EventService"),
            stream,
            {"Subscribe": projection.STREAM, "ListEvents": projection.LIST},
        )
        register(
            _service(system_service_pb2, "SystemService"),
            SystemService(
                database,
                swagger_file,
                functools.cache(lambda: openapi_json(settings_module.VERSION)),
                settings_module.VERSION,
                settings.auth_mode,
                utc_now,
            ),
        )
        self.paths = runtime.paths
        await self._listen(runtime)
        for background in (bus.run(), queue.run(self._dsn), self._turns.keep_leases(), self._turns.sweep()):
            self._tasks.append(asyncio.create_task(background))

    async def _accounts(self, database: Database) -> Authenticator:
        if self.settings.auth_mode == "none":
            log.warning("auth.none", text="everybody who reaches this server is an administrator")
            return AnonymousAuthenticator()
        assert self.settings.admin_key is not None
        await ensure_administrator(database, self.settings.admin_key.get_secret_value())
        return ApiKeyAuthenticator(database)

    async def _listen(self, runtime: Runtime) -> None:
        servicer = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._grpc)
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
        self._queue.stop()
        with contextlib.suppress(Exception):
            await self._turns.close()
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


def _service(module: Any, name: str) -> Any:
    return module.DESCRIPTOR.services_by_name[name]


async def serve(settings: Settings) -> int:
    """Run a server process until a signal; return its exit status."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = Server(settings)
    await server.start()
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
    telemetry.configure_tracing(settings.otel_endpoint, settings.otel_service_name, settings_module.VERSION)
    telemetry.serve_metrics(settings.metrics_address)
    return uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
