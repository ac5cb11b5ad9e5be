"""The route table of Envoy. First match wins, and it is searched one by one: only exceptions are listed.

A REST request is matched twice: as it came, which decides about buffering and ends on the last entry, and again when
the transcoder has turned it into a gRPC call.
"""

from __future__ import annotations

import re
from typing import Any

from codeyard_gateway.compiler.model import DEFAULT_MAX_BODY_BYTES, Api, PathTemplate, Route, Rpc, Streaming
from codeyard_gateway.settings import GatewaySettings

SERVER_CLUSTER = "server"
EDGE_CLUSTER = "edge"
_BUFFER = "envoy.filters.http.buffer"
_CORS = "envoy.filters.http.cors"
_TYPE = "type.googleapis.com/"
_GRPC_CONTENT = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_NO_BUFFER = {_BUFFER: {"@type": f"{_TYPE}envoy.extensions.filters.http.buffer.v3.BufferPerRoute", "disabled": True}}
_SAFE_TO_REPEAT = "connect-failure,refused-stream,reset-before-request"


def route_configuration(api: Api, settings: GatewaySettings) -> dict[str, Any]:
    """Return the RouteConfiguration: the hosts of this installation, and 421 for any other name."""
    host: dict[str, Any] = {
        "name": "yard",
        "domains": list(settings.hosts),
        # What an agent wrote is served from the same origin as the API: a browser must not guess that it is a page.
        "response_headers_to_add": [_header("x-content-type-options", "nosniff", "ADD_IF_ABSENT")],
        "routes": [*_websockets(api), *_bodies(api), *_calls(api, settings), _fallback()],
    }
    if settings.allowed_origins:
        host["typed_per_filter_config"] = {_CORS: _cors_policy(settings)}
        host["response_headers_to_add"].append(_header("vary", "Origin", "APPEND_IF_EXISTS_OR_ADD"))
    hosts = [host]
    if "*" not in settings.allowed_hosts:
        refusal = {
            "match": {"prefix": "/"},
            "direct_response": {"status": 421, "body": {"inline_string": "unknown host"}},
        }
        hosts.append({"name": "unknown", "domains": ["*"], "routes": [refusal]})
    return {
        "name": "public",
        "virtual_hosts": hosts,
        "validate_clusters": False,
        "ignore_port_in_host_matching": True,
    }


def _header(name: str, value: str, action: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _retry(conditions: str) -> dict[str, Any]:
    """Two more tries, on another process than the ones before."""
    predicate = "envoy.retry_host_predicates.previous_hosts"
    config = {"@type": f"{_TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    return {
        "retry_on": conditions,
        "num_retries": 2,
        "retry_host_predicate": [{"name": predicate, "typed_config": config}],
        "host_selection_retry_max_attempts": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }


def _uri_template(template: PathTemplate) -> dict[str, Any]:
    """Match a whole path; a parameter takes one segment."""
    text = "/" + "/".join(
        f"{{p{number}=**}}" if s.deep else f"{{p{number}}}" if s.parameter else s.literal or ""
        for number, s in enumerate(template.segments)
    )
    config = {
        "@type": f"{_TYPE}envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        "path_template": text,
    }
    return {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": config}


def _websockets(api: Api) -> list[dict[str, Any]]:
    """Upgrades go to the edge; anything else on these paths goes on to the last entry.

    An enabled buffer filter would make an upgrade wait for ever.
    """
    headers = [
        {"name": ":method", "string_match": {"exact": "GET"}},
        {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}},
    ]
    return [
        {
            "match": {"path_match_policy": _uri_template(socket.template), "headers": headers},
            "route": {
                "cluster": EDGE_CLUSTER,
                "timeout": "0s",
                "idle_timeout": "0s",
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "retry_policy": _retry("connect-failure"),
            },
            "typed_per_filter_config": _NO_BUFFER,
        }
        for socket in api.websockets
    ]


def _bodies(api: Api) -> list[dict[str, Any]]:
    """Routes whose body is streamed, or has another limit than the rest."""
    return [
        {
            "match": {
                "path_match_policy": _uri_template(route.template),
                "headers": [{"name": ":method", "string_match": {"exact": route.verb}}],
            },
            "route": _nowhere(),
            "typed_per_filter_config": _NO_BUFFER
            if route.rpc.streaming.client_streams
            else _limit(route.max_body_bytes),
        }
        for route in api.routes
        if _is_exception(route)
    ]


def _is_exception(route: Route) -> bool:
    return route.rpc.streaming.client_streams or route.max_body_bytes != DEFAULT_MAX_BODY_BYTES


def _limit(size: int) -> dict[str, Any]:
    config = {
        "@type": f"{_TYPE}envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        "buffer": {"max_request_bytes": size},
    }
    return {_BUFFER: config}


def _calls(api: Api, settings: GatewaySettings) -> list[dict[str, Any]]:
    """gRPC calls, from gRPC clients or from the transcoders: streams, reads that may be repeated, the rest."""
    streams = [rpc for rpc in api.rpcs if rpc.streaming is not Streaming.UNARY]
    reads = [rpc for rpc in api.rpcs if rpc.streaming is Streaming.UNARY and rpc.no_side_effects]
    deadline = [_header("grpc-timeout", f"{settings.unary_timeout_seconds}S", "ADD_IF_ABSENT")]
    routes = []
    if streams:
        routes.append(_call(_one_of(streams), _SAFE_TO_REPEAT))
    if reads:
        routes.append(
            _call(_one_of(reads), f"{_SAFE_TO_REPEAT},reset,unavailable") | {"request_headers_to_add": deadline}
        )
    prefixes = sorted({rpc.service.split(".")[0] for rpc in api.rpcs})
    rest = [_call({"prefix": f"/{prefix}."}, _SAFE_TO_REPEAT) for prefix in prefixes]
    routes += [route | {"request_headers_to_add": deadline} for route in rest]
    # Health and reflection; reflection streams.
    routes.append(_call({"prefix": "/grpc."}, _SAFE_TO_REPEAT))
    return routes


def _one_of(rpcs: list[Rpc]) -> dict[str, Any]:
    """Match many calls in one entry: one automaton costs the same for one and for a thousand."""
    services: dict[str, list[str]] = {}
    for rpc in rpcs:
        services.setdefault(rpc.service, []).append(rpc.name)
    parts = (f"{re.escape(service)}/({'|'.join(sorted(names))})" for service, names in sorted(services.items()))
    return {"safe_regex": {"regex": f"/({'|'.join(parts)})"}}


def _call(match: dict[str, Any], retry_on: str) -> dict[str, Any]:
    """``match: {grpc: {}}`` would not take gRPC-web, whose content type is rewritten only later."""
    return {
        "match": match | {"headers": [_GRPC_CONTENT]},
        "route": {"cluster": SERVER_CLUSTER, "timeout": "0s", "retry_policy": _retry(retry_on)},
        "typed_per_filter_config": _NO_BUFFER,
    }


def _nowhere() -> dict[str, Any]:
    """A cluster that does not exist: 404 by the router. CORS and other filters would pass over a direct_response."""
    return {"cluster": "no_such_route", "cluster_not_found_response_code": "NOT_FOUND", "timeout": "0s"}


def _fallback() -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": _nowhere()}


def _cors_policy(settings: GatewaySettings) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in settings.allowed_origins],
        "allow_methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "allow_headers": "accept, authorization, content-type, grpc-timeout, idempotency-key, last-event-id, range, "
        "x-grpc-web, x-request-id, x-user-agent",
        "expose_headers": "allow, content-disposition, content-range, grpc-message, grpc-status, "
        "grpc-status-details-bin, location, retry-after, x-request-id",
        "allow_credentials": True,
        "max_age": "600",
    }
