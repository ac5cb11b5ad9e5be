"""The route table: what is served where, for people, for clients and for the authorisation test."""

from __future__ import annotations

from typing import Any

from codeyard_gateway.compiler.model import Api, Route, Rpc, WebSocketRoute


def route_table(api: Api) -> dict[str, Any]:
    """Return every route, every WebSocket and every RPC, the HTTP twins of streams included."""
    return {
        "routes": [_route(route) for route in api.routes],
        "websockets": [_socket(socket) for socket in api.websockets],
        "rpcs": [_rpc(rpc) for rpc in sorted(api.rpcs, key=lambda rpc: rpc.path)],
    }


def _route(route: Route) -> dict[str, Any]:
    return {
        "verb": route.verb,
        "path": route.template.text,
        "rpc": route.rpc.path,
        "http_rpc": route.target.path,
        "json_rpc": route.json_target.path if route.json_target else None,
        "streaming": route.rpc.streaming.value,
        "sse": route.sse,
        "authenticated": route.rpc.authenticated,
        "success_status": route.success_status,
        "unwrap": route.unwrap,
        "max_body_bytes": route.max_body_bytes if route.takes_body else None,
        "content_types": _content_types(route),
        "idempotency_key": route.idempotency_key,
        "casing": route.casing.value,
        "error_shape": route.error_shape.value,
        "tag": route.tag,
    }


def _content_types(route: Route) -> list[str]:
    if not route.takes_body:
        return []
    return ["*/*"] if route.raw_request else ["application/json"]


def _socket(socket: WebSocketRoute) -> dict[str, Any]:
    return {
        "path": socket.template.text,
        "rpc": socket.rpc.path,
        "authenticated": socket.rpc.authenticated,
        "casing": socket.casing.value,
        "error_shape": socket.error_shape.value,
        "tag": socket.tag,
    }


def _rpc(rpc: Rpc) -> dict[str, Any]:
    return {
        "rpc": rpc.path,
        "request": rpc.request,
        "response": rpc.response,
        "streaming": rpc.streaming.value,
        "authenticated": rpc.authenticated,
        "twin_of": f"/{rpc.service}/{rpc.twin_of}" if rpc.twin_of else None,
    }
