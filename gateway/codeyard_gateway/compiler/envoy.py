"""The Envoy configuration. What each setting prevents was tried out; docs/adr/0002-gateway.md keeps the list."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import yaml

from codeyard_gateway.compiler.envoy_routes import EDGE_CLUSTER, SERVER_CLUSTER, route_configuration
from codeyard_gateway.compiler.index import Index
from codeyard_gateway.compiler.lua_data import ambiguous_names
from codeyard_gateway.compiler.model import DEFAULT_MAX_BODY_BYTES, PATH_FIELD, Api, Casing
from codeyard_gateway.compiler.replies import local_replies
from codeyard_gateway.settings import GatewaySettings

_TYPE = "type.googleapis.com/"
_STREAM_WINDOW = 262144
_CONNECTION_BUFFER = 262144


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayFiles:
    """Where Envoy finds what the configuration refers to. Absolute paths; a new content needs a new name."""

    lua: pathlib.PurePath
    descriptors: dict[Casing, pathlib.PurePath]


def envoy_yaml(index: Index, api: Api, settings: GatewaySettings, files: GatewayFiles) -> str:
    """Return the bootstrap configuration as YAML."""
    return yaml.dump(bootstrap(index, api, settings, files), Dumper=_PlainDumper, sort_keys=False, width=120)


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out each time instead of by anchors and aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # PyYAML's signature
        return True


def bootstrap(index: Index, api: Api, settings: GatewaySettings, files: GatewayFiles) -> dict[str, Any]:
    """Return the bootstrap configuration."""
    return {
        "node": {"id": "codeyard-gateway", "cluster": "codeyard"},
        "admin": {"address": _address(settings.admin_socket)},
        "layered_runtime": _runtime(),
        "overload_manager": _overload(settings),
        "static_resources": {
            "listeners": [_listener(index, api, settings, files)],
            "clusters": [_server_cluster(settings), _edge_cluster(settings)],
        },
    }


def _runtime() -> dict[str, Any]:
    """The route of many calls is one big regular expression; RE2's automaton stays linear, so its size is no danger."""
    sizes = {"re2.max_program_size.error_level": 1_000_000, "re2.max_program_size.warn_level": 1_000_000}
    return {"layers": [{"name": "static", "static_layer": sizes}]}


def _overload(settings: GatewaySettings) -> dict[str, Any]:
    """Bound connections and memory: every connection may hold a request body of the buffer's size."""
    heap = "envoy.resource_monitors.fixed_heap"
    package = "envoy.extensions.resource_monitors"
    monitors = [
        _monitor(
            "envoy.resource_monitors.global_downstream_max_connections",
            f"{package}.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=settings.connections,
        ),
        _monitor(heap, f"{package}.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=settings.max_memory_bytes),
    ]
    trigger = {"name": heap, "threshold": {"value": 0.95}}
    refuse = {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [trigger]}
    return {"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": [refuse]}


def _monitor(name: str, kind: str, **limits: int) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPE}{kind}", **limits}}


def _address(endpoint: str) -> dict[str, Any]:
    if endpoint.startswith("/"):
        return {"pipe": {"path": endpoint, "mode": 0o600}}
    host, _, port = endpoint.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _listener(index: Index, api: Api, settings: GatewaySettings, files: GatewayFiles) -> dict[str, Any]:
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _manager(index, api, settings, files),
    }
    return {
        "name": "public",
        "address": {"socket_address": {"address": settings.listen_address, "port_value": settings.port}},
        # With the port shared, a second gateway started by mistake would silently take half of the connections.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": _CONNECTION_BUFFER,
        "filter_chains": [{"filters": [manager]}],
    }


def _manager(index: Index, api: Api, settings: GatewaySettings, files: GatewayFiles) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "codec_type": "AUTO",
        "server_name": "codeyard",
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_proxies,
        # Resolves ".." and "%2e%2e" before anything is matched. "%2F" stays: inside an id it is data.
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        # Below what the servers take as metadata (grpc.max_metadata_size), so that too much is a 431 and not a 429.
        "max_request_headers_kb": 32,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        # Envoy keeps a connection so long before it closes it: a caller that still sends its body can read why it was
        # refused. But a reader whose stream was cut learns of it only then.
        "delayed_close_timeout": "0.5s",
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [_put_request_id_aside()],
        "http2_protocol_options": {
            "allow_connect": True,
            "max_concurrent_streams": 4096,
            "initial_stream_window_size": _STREAM_WINDOW,
            "initial_connection_window_size": 4 * 1024 * 1024,
        },
        "local_reply_config": local_replies(),
        "route_config": route_configuration(api, settings),
        "http_filters": _filters(index, api, settings, files),
    }
    if settings.access_log:
        manager["access_log"] = [_access_log(settings.access_log)]
    return manager


def _put_request_id_aside() -> dict[str, Any]:
    """Let Envoy make an id for every request; the Lua filter puts a sane one of the client back."""
    kind = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    header = {"key": "x-client-request-id", "value": "%REQ(x-request-id)%"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{_TYPE}{kind}",
            "mutations": [
                {"remove": "x-client-request-id"},
                {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
                {"remove": "x-request-id"},
            ],
        },
    }


def _access_log(path: str) -> dict[str, Any]:
    """One JSON object a line. The query is left out: it may hold a token."""
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
                    "path": "%PATH(NQ:ORIG_OR_PATH)%",
                    "status": "%RESPONSE_CODE%",
                    "bytes_in": "%BYTES_RECEIVED%",
                    "bytes_out": "%BYTES_SENT%",
                    "milliseconds": "%DURATION%",
                    "flags": "%RESPONSE_FLAGS%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                    "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                }
            },
        },
    }


def _filters(index: Index, api: Api, settings: GatewaySettings, files: GatewayFiles) -> list[dict[str, Any]]:
    """The order matters: CORS answers preflights, the buffer knows the limit of the route as it came, Lua before both
    transcoders, because it changes method and path."""
    return [
        _filter("cors", "cors.v3.Cors"),
        _filter("buffer", "buffer.v3.Buffer", max_request_bytes=DEFAULT_MAX_BODY_BYTES),
        _filter("lua", "lua.v3.Lua", default_source_code={"filename": str(files.lua)}, clear_route_cache=False),
        _filter("grpc_web", "grpc_web.v3.GrpcWeb"),
        *(_transcoder(index, api, settings, casing, str(path)) for casing, path in files.descriptors.items()),
        _filter("router", "router.v3.Router"),
    ]


def _filter(name: str, kind: str, **config: Any) -> dict[str, Any]:
    typed = {"@type": f"{_TYPE}envoy.extensions.filters.http.{kind}", **config}
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed}


def _transcoder(index: Index, api: Api, settings: GatewaySettings, casing: Casing, path: str) -> dict[str, Any]:
    """A transcoder for the services of one casing. Order of registration does not matter: literals beat parameters."""
    routes = [route for route in api.routes if route.casing is casing]
    entry = _filter(
        "grpc_json_transcoder",
        "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=path,
        services=sorted({route.target.service for route in routes}),
        auto_mapping=False,
        match_incoming_request_route=False,
        # Gives every error a body, also after early metadata: Lua can replace a body, not add one.
        convert_grpc_status=True,
        # A query parameter would override the path parameter of its name: /sessions/mine?id=other.
        ignored_query_parameters=_ignored_query_names(index, api, casing),
        ignore_unknown_query_parameters=True,
        # The same for a body member; only the names of guarded path parameters can collide.
        request_validation_options={"reject_binding_body_field_collisions": True},
        query_param_unescape_plus=True,
        # In {path=**} "%2F" stays escaped; a single segment is decoded whole.
        url_unescape_spec="ALL_CHARACTERS_EXCEPT_SLASH",
        max_request_body_size=settings.max_json_bytes,
        max_response_body_size=settings.max_json_bytes,
        print_options={"always_print_primitive_fields": True, "preserve_proto_field_names": False},
    )
    entry["name"] = f"envoy.filters.http.grpc_json_transcoder.{casing}"
    return entry


def _ignored_query_names(index: Index, api: Api, casing: Casing) -> list[str]:
    """Return the path parameters of a casing by all names the transcoder knows: proto, JSON and guarded.

    Those that are a query parameter somewhere else stay; the Lua filter takes them out where they are in the path.
    """
    routes = [route for route in api.routes if route.casing is casing]
    names = {name for route in routes for name in route.template.parameters} - ambiguous_names(index, api)
    guarded = {PATH_FIELD + name for route in routes for name in route.guarded_parameters}
    return sorted({form for name in names | guarded for form in (name, _camel(name))})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _cluster(name: str, endpoints: tuple[str, ...], settings: GatewaySettings) -> dict[str, Any]:
    static = endpoints[0].startswith("/")
    limits = {
        "max_connections": settings.connections,
        "max_pending_requests": settings.connections,
        "max_requests": settings.connections,
        "max_retries": 128,
    }
    hosts = [{"endpoint": {"address": _endpoint(endpoint)}} for endpoint in endpoints]
    return {
        "name": name,
        "type": "STATIC" if static else "STRICT_DNS",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "per_connection_buffer_limit_bytes": _CONNECTION_BUFFER,
        "circuit_breakers": {"thresholds": [limits]},
        # Only when every process fails its check are all of them tried.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }


def _endpoint(endpoint: str) -> dict[str, Any]:
    if endpoint.startswith("/"):
        return {"pipe": {"path": endpoint}}
    return _address(endpoint)


def _server_cluster(settings: GatewaySettings) -> dict[str, Any]:
    """The gRPC servers. With Envoy's default windows two readers that stall freeze every call of their connection."""
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"initial_stream_window_size": _STREAM_WINDOW, "initial_connection_window_size": 1024 * 1024 * 1024}
    cluster = _cluster(SERVER_CLUSTER, settings.server_sockets, settings)
    cluster["typed_extension_protocol_options"] = {
        kind: {"@type": f"{_TYPE}{kind}", "explicit_http_config": {"http2_protocol_options": http2}}
    }
    if settings.health_check:
        cluster["health_checks"] = [_health_check({"grpc_health_check": {}})]
    return cluster


def _edge_cluster(settings: GatewaySettings) -> dict[str, Any]:
    """The WebSocket edges; each socket holds one HTTP/1.1 connection."""
    cluster = _cluster(EDGE_CLUSTER, settings.edge_sockets, settings)
    if settings.health_check:
        cluster["health_checks"] = [_health_check({"tcp_health_check": {}})]
    return cluster


def _health_check(kind: dict[str, Any]) -> dict[str, Any]:
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **kind,
    }
