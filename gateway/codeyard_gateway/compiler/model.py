"""What the compiler knows of the API: a typed model between the protos and everything that is generated from them."""

from __future__ import annotations

import dataclasses
import enum

DEFAULT_MAX_BODY_BYTES = 2 * 1024 * 1024
JSON_PREFIX = "/~json"
"""Where the JSON twin of a stream lives inside the gateway; a client that asks for this prefix gets a 404."""

PATH_FIELD = "path_of_"
"""Prefix of the names that path parameters have in Envoy's descriptors, where the body could name them as well."""


class CompileError(Exception):
    """The protos break a rule of the gateway. ``problems`` holds one line each: file, method and reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Casing(enum.StrEnum):
    """Casing of member names in JSON; each casing has its own transcoder and its own copy of the descriptors."""

    SNAKE = "snake"
    CAMEL = "camel"


class ErrorShape(enum.StrEnum):
    """Shape of an error's body: members at the top level, or inside ``error``."""

    FLAT = "flat"
    NESTED = "nested"


class Streaming(enum.StrEnum):
    """Which side of a method streams."""

    UNARY = "unary"
    SERVER = "server"
    CLIENT = "client"
    BIDI = "bidi"

    @property
    def client_streams(self) -> bool:
        """Whether the request is a stream."""
        return self in (Streaming.CLIENT, Streaming.BIDI)

    @property
    def server_streams(self) -> bool:
        """Whether the response is a stream."""
        return self in (Streaming.SERVER, Streaming.BIDI)


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a path template: a literal, a parameter, or (``deep``) a parameter that takes the rest."""

    literal: str | None = None
    parameter: str | None = None
    deep: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path of a google.api.http rule, for example ``/v1/agents/{id}``."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of its parameters, in order."""
        return tuple(segment.parameter for segment in self.segments if segment.parameter is not None)

    @property
    def shape(self) -> str:
        """The path with every parameter's name removed: two templates of one shape match the same requests."""
        parts = ("**" if s.deep else "*" if s.parameter else s.literal or "" for s in self.segments)
        return "/" + "/".join(parts)

    @property
    def openapi(self) -> str:
        """The path as OpenAPI writes it: ``{path=**}`` becomes ``{path}``."""
        return "/" + "/".join(f"{{{s.parameter}}}" if s.parameter else s.literal or "" for s in self.segments)


@dataclasses.dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service, or a twin that exists only for HTTP (``twin_of`` names the method it prints)."""

    service: str
    name: str
    request: str
    response: str
    streaming: Streaming
    authenticated: bool
    no_side_effects: bool
    twin_of: str | None = None

    @property
    def path(self) -> str:
        """Path of the gRPC call, ``/package.Service/Method``."""
        return f"/{self.service}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One verb on one path, and the method that answers it.

    ``target`` is the method Envoy calls: ``rpc`` itself or its HTTP twin. ``json_rpc`` and ``json_target`` are set on a
    stream that answers JSON as well when the request's Accept header asks for it.
    """

    verb: str
    template: PathTemplate
    rpc: Rpc
    target: Rpc
    casing: Casing
    error_shape: ErrorShape
    tag: str
    success_status: int
    body: str
    unwrap: str | None
    max_body_bytes: int
    raw_request: bool
    raw_response: bool
    content_type: str | None
    sse: bool
    json_rpc: Rpc | None
    json_target: Rpc | None
    error_statuses: tuple[int, ...]
    idempotency_key: bool
    request_example: str
    response_example: str

    @property
    def guarded_parameters(self) -> tuple[str, ...]:
        """Path parameters that a body member of the same name would override in Envoy."""
        return self.template.parameters if self.body == "*" else ()

    @property
    def takes_body(self) -> bool:
        """Whether the method reads a request body."""
        return bool(self.body) or self.rpc.streaming.client_streams


@dataclasses.dataclass(frozen=True, slots=True)
class WebSocketRoute:
    """A path whose WebSocket carries a bidirectional method."""

    template: PathTemplate
    rpc: Rpc
    casing: Casing
    error_shape: ErrorShape
    tag: str
    error_statuses: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A service that has routes, or only methods for gRPC clients."""

    name: str
    casing: Casing
    error_shape: ErrorShape
    tag: str
    comment: str


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """The whole API. ``rpcs`` holds every method of every own service, twins included, by service and declaration."""

    services: tuple[Service, ...]
    rpcs: tuple[Rpc, ...]
    routes: tuple[Route, ...]
    websockets: tuple[WebSocketRoute, ...]

    def casings(self) -> tuple[Casing, ...]:
        """Return the casings in use."""
        used = {route.casing for route in self.routes}
        return tuple(casing for casing in Casing if casing in used)
