"""Bodies of the replies that Envoy makes itself, in the error shape of the path.

A mapper exists for each status and shape. Texts are fixed, because Envoy's own name addresses, limits and filters; only
what the JSON parser says about the caller's own body is passed on.
"""

from __future__ import annotations

from typing import Any

from codeyard_gateway.compiler.model import ErrorShape

METADATA = "gateway"
"""Namespace of the dynamic metadata in which the Lua filter keeps what it knows of a request."""

_REPLIES = {
    400: ("INVALID_ARGUMENT", "The request cannot be read. %LOCAL_REPLY_BODY%"),
    403: ("ROUTE_NOT_FOUND", "There is no WebSocket at this path."),
    404: ("ROUTE_NOT_FOUND", "There is no route at this path."),
    408: ("DEADLINE_EXCEEDED", "The request did not arrive in time."),
    413: ("TOO_LARGE", "The request body is larger than this route allows."),
    421: ("HOST_UNKNOWN", "This installation does not answer to this host name."),
    426: ("INVALID_ARGUMENT", "HTTP/1.1 or HTTP/2 is needed."),
    431: ("INVALID_ARGUMENT", "The request headers are too large."),
    500: ("INTERNAL", "The server failed to answer."),
    502: ("INTERNAL", "The server's answer cannot be read."),
    503: ("UNAVAILABLE", "The service cannot be reached at the moment."),
    504: ("DEADLINE_EXCEEDED", "The service did not answer in time."),
}
_RENUMBERED = {403: 404}
"""Envoy says 403 to an upgrade where it expects none; to the caller no such route exists."""

_REQUEST_ID = {"header": {"key": "x-request-id", "value": "%UNIQUE_ID%"}, "append_action": "ADD_IF_ABSENT"}
"""A request that cannot even be parsed has no id; the id of any other replaces this one."""


def local_replies() -> dict[str, Any]:
    """Return the local_reply_config of the connection manager."""
    mappers = [_verbatim("grpc"), _verbatim("own")]
    for status, (code, text) in _REPLIES.items():
        mappers.append(_mapper(status, ErrorShape.NESTED, code, text))
        mappers.append(_mapper(status, None, code, text))
    return {"mappers": mappers, "body_format": _format(_body(ErrorShape.FLAT, "INTERNAL", "The request failed."))}


def _verbatim(family: str) -> dict[str, Any]:
    """gRPC callers read the body as grpc-message, and what the Lua filter wrote is finished."""
    return {
        "filter": _family(family),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _mapper(status: int, shape: ErrorShape | None, code: str, text: str) -> dict[str, Any]:
    """Return the mapper of a status; without a shape it also takes requests that were refused before Lua saw them."""
    match: dict[str, Any] = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": "gateway.status"}}
        }
    }
    if shape is not None:
        match = {"and_filter": {"filters": [match, _family(shape)]}}
    body = _body(shape or ErrorShape.FLAT, code, text)
    mapper: dict[str, Any] = {"filter": match, "headers_to_add": [_REQUEST_ID], "body_format_override": _format(body)}
    if status in _RENUMBERED:
        mapper["status_code"] = _RENUMBERED[status]
    return mapper


def _family(family: str) -> dict[str, Any]:
    return {
        "metadata_filter": {
            "matcher": {
                "filter": METADATA,
                "path": [{"key": "request"}, {"key": "family"}],
                "value": {"string_match": {"exact": str(family)}},
            },
            "match_if_key_not_found": False,
        }
    }


def _body(shape: ErrorShape, code: str, text: str) -> dict[str, Any]:
    if shape is ErrorShape.NESTED:
        return {"error": {"code": code, "message": text}}
    return {"error": text, "status": "%RESPONSE_CODE%", "code": code}


def _format(body: dict[str, Any]) -> dict[str, Any]:
    return {"json_format": body, "content_type": "application/json"}
