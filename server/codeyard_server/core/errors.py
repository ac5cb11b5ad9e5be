"""Every failure a caller can see is an exception with a reason; one table says what a reason is on the wire.

    Failure                        base: reason, text safe to show, optional details
    ├── InvalidArgument            400
    │   ├── CursorUnknown · CapabilityInvalid · ModelUnknown · ModelExists · VaultNotConfigured
    ├── Unauthenticated            401
    ├── PermissionDenied           403
    ├── NotFound                   404
    ├── AlreadyExists              409
    ├── IdempotencyKeyReused       409
    └── Unavailable                503

Anything else that a handler raises is a fault: logged with its traceback, answered by a fixed text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import grpc
from codeyard.errors.v1 import reason_pb2

MAX_TEXT = 2048
"""Longest text of an error in characters. Message and details travel in HTTP/2 headers, which end at 60 KiB."""

Code = grpc.StatusCode

# reason -> (gRPC code, HTTP status)
WIRE: Mapping[str, tuple[grpc.StatusCode, int]] = {
    "INVALID_ARGUMENT": (Code.INVALID_ARGUMENT, 400),
    "UNAUTHENTICATED": (Code.UNAUTHENTICATED, 401),
    "PERMISSION_DENIED": (Code.PERMISSION_DENIED, 403),
    "NOT_FOUND": (Code.NOT_FOUND, 404),
    "ROUTE_NOT_FOUND": (Code.UNIMPLEMENTED, 404),
    "METHOD_NOT_ALLOWED": (Code.UNIMPLEMENTED, 405),
    "ALREADY_EXISTS": (Code.ALREADY_EXISTS, 409),
    "IDEMPOTENCY_KEY_REUSED": (Code.ALREADY_EXISTS, 409),
    "TOO_LARGE": (Code.RESOURCE_EXHAUSTED, 413),
    "UNSUPPORTED_MEDIA_TYPE": (Code.INVALID_ARGUMENT, 415),
    "RATE_LIMITED": (Code.RESOURCE_EXHAUSTED, 429),
    "INTERNAL": (Code.INTERNAL, 500),
    "UNAVAILABLE": (Code.UNAVAILABLE, 503),
    "DEADLINE_EXCEEDED": (Code.DEADLINE_EXCEEDED, 504),
    "CURSOR_UNKNOWN": (Code.INVALID_ARGUMENT, 400),
    "CAPABILITY_INVALID": (Code.INVALID_ARGUMENT, 400),
    "MODEL_UNKNOWN": (Code.INVALID_ARGUMENT, 400),
    "MODEL_EXISTS": (Code.INVALID_ARGUMENT, 400),
    "VAULT_NOT_CONFIGURED": (Code.INVALID_ARGUMENT, 400),
    "HOST_UNKNOWN": (Code.PERMISSION_DENIED, 421),
    "CANCELLED": (Code.CANCELLED, 499),
    "UNIMPLEMENTED": (Code.UNIMPLEMENTED, 501),
}


def reasons() -> Sequence[str]:
    """Return the words of the public enum, without prefix and without the unspecified one."""
    return [name.removeprefix("REASON_") for name, number in reason_pb2.Reason.items() if number]


class Failure(Exception):
    """A failure that the caller may read.

    ``details`` is a JSON value for the member of that name; ``headers`` are response metadata such as retry-after.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, text: str, *, details: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
        self.details = details
        self.headers = dict(headers or {})

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return WIRE[self.reason][0]

    @property
    def http_status(self) -> int:
        """The HTTP status."""
        return WIRE[self.reason][1]


class InvalidArgument(Failure):
    """A value breaks a bound that the caller can read in the API."""

    reason = "INVALID_ARGUMENT"


class CursorUnknown(InvalidArgument):
    """The cursor names no event of this stream."""

    reason = "CURSOR_UNKNOWN"


class CapabilityInvalid(InvalidArgument):
    """A capability id is unknown or repeated."""

    reason = "CAPABILITY_INVALID"


class ModelUnknown(InvalidArgument):
    """A model id names no model."""

    reason = "MODEL_UNKNOWN"


class ModelExists(InvalidArgument):
    """The provider already has a model of this name."""

    reason = "MODEL_EXISTS"


class VaultNotConfigured(InvalidArgument):
    """No master key is configured, so no secret can be stored."""

    reason = "VAULT_NOT_CONFIGURED"


class Unauthenticated(Failure):
    """No credential, or one that is not valid."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(Failure):
    """A valid credential that may not do this."""

    reason = "PERMISSION_DENIED"


class NotFound(Failure):
    """No such object, or one the caller may not see."""

    reason = "NOT_FOUND"


class AlreadyExists(Failure):
    """An object with this unique property exists."""

    reason = "ALREADY_EXISTS"


class IdempotencyKeyReused(Failure):
    """The Idempotency-Key was used with another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class Unavailable(Failure):
    """Something the server depends on is down."""

    reason = "UNAVAILABLE"


class Internal(Failure):
    """A fault; the text is fixed, the cause is in the log under the request id."""

    reason = "INTERNAL"

    def __init__(self) -> None:
        super().__init__("Internal error")
