"""The parts of the OpenAPI document that are the same for every API: errors, headers, security, texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from codeyard_gateway.compiler.model import ErrorShape

DESCRIPTION = """One API, several ways to reach it on the same port: JSON over HTTP as described here, server-sent \
events, WebSockets, gRPC and gRPC-web.

Members that are not known are ignored. In a request `null` means the same as leaving the member out. An answer leaves \
out what is not set, and prints zero, false, "" and []. Every answer has the header `X-Request-Id`; a request may \
bring its own."""

SSE = """A stream of frames, each ended by a blank line. A stored event has the lines "event: <type>", \
"id: <event id>" and "data: <the event as JSON>"; an event that is only live has no id line. A line that starts with a \
colon is a comment and keeps the connection open. The id of the last frame, sent as the header Last-Event-ID, resumes \
the stream after it."""

SSE_EXAMPLE = (
    ": ready\n\nevent: turn.started\nid: 01930000-0000-7000-8000-000000000001\n"
    'data: {"id":"01930000-0000-7000-8000-000000000001","type":"turn.started"}\n\n'
)

WEBSOCKET = "This is a WebSocket: the request must be an upgrade, and each frame is the JSON of one message."

HEADERS: dict[str, Any] = {
    "XRequestId": {
        "description": "Names this request in the log. The request's own X-Request-Id when it is at most 128 characters"
        " of letters, digits, dot, underscore and hyphen.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where to go on.", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "Allow": {"description": "The methods this path takes.", "schema": {"type": "string"}},
}

ANSWER_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/XRequestId"}}

PARAMETERS: dict[str, Any] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A key of the caller's choice. The same key with the same request gets the first answer again"
        " for 24 hours; with another request it is refused (409).",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "Id of the last event received; the stream goes on after it.",
        "schema": {"type": "string", "format": "uuid"},
    },
}

SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access token or an API key: `Bearer <token>`."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "An API key as the whole value of the header.",
    },
}

_ERRORS = {
    400: ("BadRequest", "INVALID_ARGUMENT", "A value breaks a bound, or the request cannot be read."),
    401: ("Unauthenticated", "UNAUTHENTICATED", "There is no valid credential."),
    403: ("Forbidden", "PERMISSION_DENIED", "The caller may not do this."),
    404: ("NotFound", "NOT_FOUND", "There is no such object."),
    405: ("MethodNotAllowed", "METHOD_NOT_ALLOWED", "The path does not take this method."),
    409: ("Conflict", "ALREADY_EXISTS", "The object exists already, or its state does not allow this."),
    410: ("Gone", "NOT_FOUND", "The object is gone."),
    412: ("PreconditionFailed", "INVALID_ARGUMENT", "A condition of the request does not hold."),
    413: ("TooLarge", "TOO_LARGE", "The request body is too large."),
    415: ("UnsupportedMediaType", "UNSUPPORTED_MEDIA_TYPE", "The request body must be application/json."),
    422: ("Unprocessable", "INVALID_ARGUMENT", "The request is well-formed, but cannot be followed."),
    429: ("TooManyRequests", "RATE_LIMITED", "There are too many requests; Retry-After says when to come back."),
    500: ("InternalError", "INTERNAL", "The server failed to answer."),
    501: ("NotImplemented", "UNIMPLEMENTED", "This is not implemented."),
    502: ("BadGateway", "INTERNAL", "A service behind this one failed."),
    503: ("Unavailable", "UNAVAILABLE", "Something the server depends on cannot be reached."),
    504: ("DeadlineExceeded", "DEADLINE_EXCEEDED", "The server did not answer in time."),
}

_SUCCESS = {
    200: "Done.",
    201: "Created.",
    202: "Accepted; it happens later.",
    204: "Done; there is no body.",
    302: "The answer is elsewhere.",
    303: "The answer is elsewhere.",
}


def known_error_status(status: int) -> bool:
    """Whether the document has a text for this error status."""
    return status in _ERRORS


def success_text(status: int) -> str:
    """Return the description of a success."""
    return _SUCCESS.get(status, "Done.")


def security(authenticated: bool) -> list[dict[str, list[str]]]:
    """Return the security requirement of an operation: either scheme, or none."""
    return [{"bearer": []}, {"apiKey": []}] if authenticated else []


def plain_path_parameter(name: str) -> dict[str, Any]:
    """Return a path parameter of which nothing more is known."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def error_schemas(reasons: list[str]) -> dict[str, Any]:
    """Return the two error bodies. ``reasons`` are the words of ``code``; empty leaves them open."""
    code: dict[str, Any] = {"type": "string", "description": "Why, for programs: it never changes its meaning."}
    if reasons:
        code["enum"] = reasons
    text = {"type": "string", "description": "Why, for people."}
    flat = {
        "type": "object",
        "description": "Why a call failed.",
        "required": ["error", "status"],
        "properties": {
            "error": text,
            "status": {"type": "integer", "description": "The HTTP status again."},
            "code": code,
            "details": {"description": "More about it, where there is more."},
        },
    }
    nested = {
        "type": "object",
        "description": "Why a call failed.",
        "required": ["error"],
        "properties": {
            "error": {"type": "object", "required": ["code", "message"], "properties": {"code": code, "message": text}}
        },
    }
    return {"Error": flat, "NestedError": nested}


def error_responses() -> dict[str, Any]:
    """Return a response for each error status and shape."""
    found = {}
    for status, (name, code, text) in _ERRORS.items():
        flat = {"error": text, "status": status, "code": code}
        found[name] = _error_response(status, text, "Error", flat)
        found[f"Nested{name}"] = _error_response(
            status, text, "NestedError", {"error": {"code": code, "message": text}}
        )
    return dict(sorted(found.items()))


def _error_response(status: int, text: str, schema: str, example: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = dict(ANSWER_HEADERS)
    if status == 405:
        headers["Allow"] = {"$ref": "#/components/headers/Allow"}
    if status == 429:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}}
    return {"description": text, "headers": headers, "content": content}


def error_references(statuses: Iterable[int], shape: ErrorShape) -> dict[str, Any]:
    """Return the responses of an operation for these error statuses."""
    prefix = "Nested" if shape is ErrorShape.NESTED else ""
    return {
        str(status): {"$ref": f"#/components/responses/{prefix}{_ERRORS[status][0]}"} for status in sorted(statuses)
    }
