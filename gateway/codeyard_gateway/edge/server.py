"""The edge's HTTP server: the routes of the sockets, the refusals before an upgrade, limits, start and stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import pathlib

import grpc
import prometheus_client
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from codeyard_gateway.compiler.model import ErrorShape, PathTemplate, WebSocketRoute
from codeyard_gateway.compiler.reader import read_image, twin_name
from codeyard_gateway.edge import handshake
from codeyard_gateway.edge.failures import Refused, failed_call
from codeyard_gateway.edge.messages import Malformed, Requests, descriptor_pools
from codeyard_gateway.edge.socket import MAX_FRAME_BYTES, Call, Socket, write
from codeyard_gateway.render import load_image
from codeyard_gateway.settings import LOOPBACK_HOSTS

log = structlog.get_logger(__name__)

OPENED = ("x-http-code", "101")
"""Initial metadata by which a call says that nothing is in the way of the upgrade."""

SOCKETS = prometheus_client.Gauge("codeyard_sockets", "Open WebSockets of this process.")
CLOSED = prometheus_client.Counter("codeyard_sockets_closed_total", "Closed WebSockets by who ended them.", ["by"])
REFUSED = prometheus_client.Counter("codeyard_sockets_refused_total", "Refused upgrades by HTTP status.", ["status"])

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # An error carries its text twice and its finished body, more than the default of 8 KiB.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    # With the window growing by itself, a client that does not read has megabytes waiting here instead of nothing.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeSettings:
    """One edge. An endpoint is the absolute path of a unix socket, or ``host:port``."""

    address: str
    """Where it listens; port 0 lets the system choose."""
    server: str
    """The server process's gRPC endpoint."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names it answers to besides the loopback names, as in GatewaySettings.hosts."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browser pages that may open sockets, besides the host itself."""
    max_sockets: int = 10000
    """Most sockets at a time; more are refused with 503."""
    ping_seconds: float = 20.0
    """Silence after which a peer is asked for a sign; one that gives none for as long again is cut off."""
    open_seconds: float = 30.0
    """How long the server may take to accept or refuse a call; then 504."""
    close_seconds: float = 2.0
    """How long a peer may take to answer a close frame."""


class Edge:
    """Serves every WebSocket of the API. :meth:`start` and :meth:`stop` belong to one event loop.

    Args:
        settings: where and how.
        image: the descriptor image; the packaged one by default.

    Raises:
        CompileError, ValueError: the image breaks a rule of the gateway.
    """

    def __init__(self, settings: EdgeSettings, image: bytes | None = None) -> None:
        self.settings = settings
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK_HOSTS, *settings.allowed_hosts))
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)
        index, api = read_image(load_image() if image is None else image)
        # One thread, so that whoever sends large frames takes turns with his like and not with everybody.
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "edge-json")
        pools = descriptor_pools(index, api)
        self._routes = [(route, Requests(route, pools[route.casing], self._executor)) for route in api.websockets]
        self._open: set[Socket] = set()
        self._taken = 0
        self._stopping = False

    @property
    def address(self) -> str:
        """Where it listens, once started: the path, or host:port with the port that the system chose."""
        address = self._runner.addresses[0]
        return address if isinstance(address, str) else f"{address[0]}:{address[1]}"

    async def start(self) -> None:
        """Listen. The server need not answer yet.

        Raises:
            OSError: the address cannot be used.
        """
        target = self.settings.server
        self._channel = grpc.aio.insecure_channel(
            f"unix:{target}" if target.startswith("/") else target, options=_CHANNEL_OPTIONS
        )
        application = web.Application(middlewares=[_errors])
        for route, requests in self._routes:
            handler = functools.partial(self._answer, route, requests)
            application.router.add_route("GET", _path(route.template), handler)
        # No access log: it would be the second of each request, after the gateway's.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2 * self.settings.close_seconds)
        await self._runner.setup()
        await self._listen().start()
        self._watcher = asyncio.create_task(self._watch())

    def _listen(self) -> web.BaseSite:
        address = self.settings.address
        if address.startswith("/"):
            self._remove_socket()
            return web.UnixSite(self._runner, address)
        host, _, port = address.rpartition(":")
        return web.TCPSite(self._runner, host.strip("[]"), int(port))

    def _remove_socket(self) -> None:
        """Remove the socket file: one of a process that was killed is in the way of its successor."""
        if self.settings.address.startswith("/"):
            pathlib.Path(self.settings.address).unlink(missing_ok=True)

    async def stop(self) -> None:
        """Refuse new sockets, close the open ones with 1012, stop listening. Before the gRPC server stops.

        A second call does nothing.
        """
        if self._stopping:
            return
        self._stopping = True
        for socket in self._open:
            socket.stop()
        self._watcher.cancel()
        await self._runner.cleanup()
        self._remove_socket()
        await self._channel.close(None)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Look for a sign of every peer: ask the silent, cut off the dead. Done by itself twice in ``ping_seconds``."""
        for socket in self._open:
            socket.look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.ping_seconds / 2)
            self.look()

    async def _answer(self, route: WebSocketRoute, requests: Requests, request: web.Request) -> web.StreamResponse:
        self._taken += 1
        try:
            return await self._attach(route, requests, request)
        except Refused as refused:
            REFUSED.labels(refused.status).inc()
            return refused.response(route.error_shape)
        finally:
            self._taken -= 1

    async def _attach(self, route: WebSocketRoute, requests: Requests, request: web.Request) -> web.StreamResponse:
        """Check, call, upgrade, and stay until the socket ends."""
        handshake.check_host(request, self._hosts)
        handshake.check_upgrade(request)
        handshake.check_origin(request, self._origins)
        metadata = handshake.call_metadata(request)
        websocket = web.WebSocketResponse(
            protocols=(handshake.PROTOCOL,),
            # A frame that is a little too large is read to its end: its sender then gets the close code, not a reset.
            max_msg_size=2 * MAX_FRAME_BYTES,
            decode_text=False,
            timeout=self.settings.close_seconds,
            # Compression would cost each socket more memory than all the rest of it.
            compress=False,
            # Whenever the transport is full, the sender waits.
            writer_limit=0,
            autoclose=False,
            autoping=False,
        )
        if not websocket.can_prepare(request):
            raise Refused(400, "INVALID_ARGUMENT", "Sec-WebSocket-Key is not 16 bytes in base64")
        try:
            first = requests.first(request.match_info, list(request.query.items()))
        except Malformed as error:
            raise Refused(400, "INVALID_ARGUMENT", str(error)) from error
        self._check_room()
        call = await self._call(route, metadata, first)
        socket = Socket(request, websocket, call, requests)
        self._open.add(socket)
        try:
            self._check_room()
            await websocket.prepare(request)
            with SOCKETS.track_inprogress():
                end = await socket.run(self.settings.close_seconds)
            CLOSED.labels(end.by).inc()
            return websocket
        finally:
            self._open.discard(socket)
            call.cancel()

    def _check_room(self) -> None:
        if self._stopping or self._taken > self.settings.max_sockets:
            text = "The server restarts." if self._stopping else "There are too many open sockets."
            raise Refused(503, "UNAVAILABLE", text, headers={"Retry-After": "1"})

    async def _call(self, route: WebSocketRoute, metadata: tuple[tuple[str, str], ...], first: bytes) -> Call:
        """Open the call and wait until the server has accepted it.

        Raises:
            Refused: as the server says; 504 if it says nothing.
        """
        path = f"/{route.rpc.service}/{twin_name(route.rpc.name)}"
        call: Call = self._channel.stream_stream(path, None, None)(None, metadata=metadata)
        accepted = False
        try:
            async with asyncio.timeout(self.settings.open_seconds):
                await write(call, first)
                accepted = OPENED in tuple(await call.initial_metadata())
                if not accepted:
                    raise failed_call(await call.code(), await call.trailing_metadata())
        except TimeoutError as error:
            raise Refused(504, "DEADLINE_EXCEEDED", "The service did not answer in time.") from error
        finally:
            if not accepted:
                call.cancel()
        return call


def _path(template: PathTemplate) -> str:
    """Return a template as the router writes it: a parameter takes one segment, a deep one the rest."""
    return "/" + "/".join(
        f"{{{s.parameter}:.*}}" if s.deep else f"{{{s.parameter}}}" if s.parameter else s.literal or ""
        for s in template.segments
    )


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what has no route, and faults, in JSON."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        headers = {"Allow": ", ".join(sorted(error.allowed_methods))}
        refused = Refused(405, "METHOD_NOT_ALLOWED", "The path does not take this method.", headers=headers)
    except web.HTTPNotFound:
        refused = Refused(404, "ROUTE_NOT_FOUND", "There is no route at this path.")
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:  # the last stop: aiohttp would answer in plain text
        log.exception("edge.fault", path=request.path)
        refused = Refused(500, "INTERNAL", "The server failed to answer.")
    return refused.response(ErrorShape.FLAT)
