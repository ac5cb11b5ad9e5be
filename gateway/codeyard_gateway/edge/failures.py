"""What a refused or failed call becomes: an HTTP error before the upgrade, a close code after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from aiohttp import web

from codeyard_gateway.compiler.model import ErrorShape

CLOSE_BASE = 4000
"""A call that fails with an HTTP status closes its socket with this number plus the status."""
SERVICE_RESTART = 1012
MAX_CLOSE_TEXT = 123
"""Longest text of a close frame in bytes (RFC 6455: a control frame holds 125, two of them are the code)."""

_PASSED_ON = ("retry-after", "www-authenticate", "set-cookie", "cache-control")

Code = grpc.StatusCode

# For calls that failed without a word of the server: gRPC code -> HTTP status, reason, text.
_GENERIC: Mapping[grpc.StatusCode, tuple[int, str, str]] = {
    Code.INVALID_ARGUMENT: (400, "INVALID_ARGUMENT", "The request is not valid."),
    Code.UNAUTHENTICATED: (401, "UNAUTHENTICATED", "A valid credential is required."),
    Code.PERMISSION_DENIED: (403, "PERMISSION_DENIED", "This is not allowed."),
    Code.NOT_FOUND: (404, "NOT_FOUND", "There is no such object."),
    Code.RESOURCE_EXHAUSTED: (429, "RATE_LIMITED", "There are too many requests."),
    Code.UNIMPLEMENTED: (501, "UNIMPLEMENTED", "This is not implemented."),
    Code.UNAVAILABLE: (503, "UNAVAILABLE", "The service cannot be reached at the moment."),
    Code.CANCELLED: (503, "UNAVAILABLE", "The service cannot be reached at the moment."),
    Code.DEADLINE_EXCEEDED: (504, "DEADLINE_EXCEEDED", "The service did not answer in time."),
}
_INTERNAL = (500, "INTERNAL", "The server failed to answer.")


class Refused(Exception):
    """A request or call that ends in an error. ``body`` is the finished JSON of the server, if it sent one."""

    def __init__(
        self, status: int, reason: str, text: str, *, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})
        self.body = body

    def response(self, shape: ErrorShape) -> web.Response:
        """Return the HTTP error in a family's shape. The connection ends with it: the client may have gone on."""
        body = self.body
        if body is None:
            content: dict[str, Any] = {"error": self.text, "status": self.status, "code": self.reason}
            if shape is ErrorShape.NESTED:
                content = {"error": {"code": self.reason, "message": self.text}}
            body = json.dumps(content)
        response = web.Response(
            status=self.status, body=body.encode(), content_type="application/json", headers=self.headers
        )
        response.force_close()
        return response

    @property
    def close_code(self) -> int:
        """The private close code."""
        return CLOSE_BASE + self.status

    @property
    def close_text(self) -> bytes:
        """The reason word and as much of the text as a close frame takes."""
        return close_text(f"{self.reason}: {self.text}")


class ServerGone(Refused):
    """The call was cut off by the connection, not ended by the handler: the server stops, or has died."""

    @property
    def close_code(self) -> int:
        """Clients come back after this one."""
        return SERVICE_RESTART


def close_text(text: str) -> bytes:
    """Return a text cut to what a close frame takes, between two characters."""
    return text.encode(errors="replace")[:MAX_CLOSE_TEXT].decode(errors="ignore").encode()


def failed_call(code: grpc.StatusCode, trailing: Iterable[Any]) -> Refused:
    """Return what the end of a call means, from its code and trailing metadata.

    Only what the server finished for the outside (x-http-code, x-error-body) is passed on: grpc's own texts name
    sockets and exceptions.
    """
    metadata = {str(name): value for name, value in trailing if isinstance(value, str)}
    body, status = metadata.get("x-error-body"), metadata.get("x-http-code", "")
    if body is None or not status.isdecimal() or not 400 <= int(status) <= 599:
        kind = ServerGone if code in (Code.UNAVAILABLE, Code.CANCELLED) else Refused
        return kind(*_GENERIC.get(code, _INTERNAL))
    reason, text = _words(body)
    headers = {name: metadata[name] for name in _PASSED_ON if name in metadata}
    return Refused(int(status), reason, text, headers=headers, body=body)


def _words(body: str) -> tuple[str, str]:
    """Return reason and text of an error body of either shape."""
    content: dict[str, Any] = json.loads(body)
    error = content["error"]
    return (error["code"], error["message"]) if isinstance(error, dict) else (content["code"], error)
