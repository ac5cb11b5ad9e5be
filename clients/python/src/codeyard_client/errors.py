"""Every failure is an exception with a reason. Branch on the class or the reason, never on the text.

CodeyardError              reason, message, details, request_id
├── InvalidArgument        a value breaks a bound; details name the fields
│   └── CursorUnknown · CapabilityInvalid · ModelUnknown · ModelExists · VaultNotConfigured
├── Unauthenticated · PermissionDenied · NotFound · AlreadyExists · IdempotencyKeyReused · TooLarge
├── RateLimited            retry_after
├── Unavailable            the yard is down, or something it depends on
│   └── ConnectionFailed   no answer arrived
├── DeadlineExceeded · Cancelled · Internal · Unimplemented
├── HostUnknown · RouteNotFound · MethodNotAllowed · UnsupportedMediaType
└── TurnFailed             error_code, turn_id: a turn ended without an answer
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, cast

import grpc

from codeyard_client.gen.google import rpc

_DOMAIN = "codeyard"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


@dataclasses.dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request. ``field`` is its path, such as ``message.content``."""

    field: str
    message: str


class CodeyardError(Exception):
    """A failure.

    ``reason`` is a word of the API's enum of reasons; one that this version does not know comes as this class.
    ``details`` name the fields of a bad request. ``request_id`` finds the call in the yard's log, None if none arrived.
    """

    reason: str = "UNSPECIFIED"

    def __init__(self, message: str, *, details: Sequence[FieldViolation] = (), request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.request_id = request_id


class InvalidArgument(CodeyardError):
    """A value breaks a bound, or has the wrong type."""

    reason = "INVALID_ARGUMENT"


class CursorUnknown(InvalidArgument):
    """The cursor names no event of this session."""

    reason = "CURSOR_UNKNOWN"


class CapabilityInvalid(InvalidArgument):
    """A capability is not in the catalogue, or is named twice."""

    reason = "CAPABILITY_INVALID"


class ModelUnknown(InvalidArgument):
    """A model id names no model."""

    reason = "MODEL_UNKNOWN"


class ModelExists(InvalidArgument):
    """The provider already has a model of this name."""

    reason = "MODEL_EXISTS"


class VaultNotConfigured(InvalidArgument):
    """The yard has no master key, so it stores no secret."""

    reason = "VAULT_NOT_CONFIGURED"


class Unauthenticated(CodeyardError):
    """No token, or one that is not valid."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(CodeyardError):
    """A valid token that may not do this."""

    reason = "PERMISSION_DENIED"


class NotFound(CodeyardError):
    """No such object, or one the caller may not see."""

    reason = "NOT_FOUND"


class AlreadyExists(CodeyardError):
    """An object with this unique property exists."""

    reason = "ALREADY_EXISTS"


class IdempotencyKeyReused(CodeyardError):
    """The idempotency key was used with another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class TooLarge(CodeyardError):
    """The request is larger than the yard takes."""

    reason = "TOO_LARGE"


class RateLimited(CodeyardError):
    """Too many requests. ``retry_after`` is in seconds, None where the yard did not say."""

    reason = "RATE_LIMITED"
    retry_after: float | None = None


class Unavailable(CodeyardError):
    """The yard is down, or something it depends on is."""

    reason = "UNAVAILABLE"


class ConnectionFailed(Unavailable):
    """No answer arrived: the yard could not be reached, or the connection broke."""


class DeadlineExceeded(CodeyardError):
    """The call took longer than it was given."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(CodeyardError):
    """The client was closed while it waited."""

    reason = "CANCELLED"


class Internal(CodeyardError):
    """A fault of the yard; its log has the cause under the request id."""

    reason = "INTERNAL"


class Unimplemented(CodeyardError):
    """The yard does not know this method: it is older than this client."""

    reason = "UNIMPLEMENTED"


class HostUnknown(CodeyardError):
    """The yard does not answer to this host name."""

    reason = "HOST_UNKNOWN"


class RouteNotFound(CodeyardError):
    """No route at this path."""

    reason = "ROUTE_NOT_FOUND"


class MethodNotAllowed(CodeyardError):
    """The path exists, with other methods."""

    reason = "METHOD_NOT_ALLOWED"


class UnsupportedMediaType(CodeyardError):
    """The content type of the request is not one the route takes."""

    reason = "UNSUPPORTED_MEDIA_TYPE"


class TurnFailed(CodeyardError):
    """A turn ended without an answer.

    ``error_code`` is ``llm_error``, ``max_iterations``, ``cancelled``, ``timeout`` or ``internal_error``.
    """

    reason = "TURN_FAILED"

    def __init__(self, message: str, error_code: str, turn_id: str) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.turn_id = turn_id

    def __reduce__(self) -> tuple[type[TurnFailed], tuple[str, str, str]]:
        return TurnFailed, (self.message, self.error_code, self.turn_id)


def _classes(base: type[CodeyardError]) -> dict[str, type[CodeyardError]]:
    found: dict[str, type[CodeyardError]] = {}
    for kind in base.__subclasses__():
        # A subclass that inherits its reason, such as ConnectionFailed, is not what the reason stands for.
        found |= {**_classes(kind), kind.reason: kind}
    return found


BY_REASON = _classes(CodeyardError)
"""The class of every reason."""

_Code = grpc.StatusCode
# What stands in the place of a reason when the gateway or gRPC itself, and not the yard, ended the call.
_BY_CODE: dict[grpc.StatusCode, type[CodeyardError]] = {
    _Code.INVALID_ARGUMENT: InvalidArgument,
    _Code.UNAUTHENTICATED: Unauthenticated,
    _Code.PERMISSION_DENIED: PermissionDenied,
    _Code.NOT_FOUND: NotFound,
    _Code.ALREADY_EXISTS: AlreadyExists,
    _Code.RESOURCE_EXHAUSTED: TooLarge,
    _Code.UNAVAILABLE: Unavailable,
    _Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    _Code.CANCELLED: Cancelled,
    _Code.UNIMPLEMENTED: Unimplemented,
    _Code.INTERNAL: Internal,
}
# How gRPC says that a connection broke: refused or closed, reset, gone without a word, reset with CANCEL.
_BROKEN = {_Code.UNAVAILABLE, _Code.INTERNAL, _Code.UNKNOWN, _Code.CANCELLED}


class _Ended(Protocol):
    """What asynchronous and blocking gRPC errors share."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def initial_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...


def from_rpc(error: grpc.RpcError) -> CodeyardError:
    """Return the failure that a gRPC error stands for."""
    ended = cast(_Ended, error)
    trailing = dict(ended.trailing_metadata() or ())
    headers = {**dict(ended.initial_metadata() or ()), **trailing}
    text = ended.details() or ended.code().name
    request_id = headers.get("x-request-id")
    name = request_id if isinstance(request_id, str) else None
    details = trailing.get("grpc-status-details-bin")
    reason, violations = _read_details(details if isinstance(details, bytes) else b"")
    if reason:
        kind = BY_REASON.get(reason, CodeyardError)
    elif not trailing and ended.code() in _BROKEN:
        kind = ConnectionFailed
    else:
        kind = _BY_CODE.get(ended.code(), CodeyardError)
    failure = kind(text, details=violations, request_id=name)
    if reason and kind is CodeyardError:
        failure.reason = reason
    if isinstance(failure, RateLimited):
        failure.retry_after = _seconds(headers.get("retry-after"))
    return failure


def _read_details(data: bytes) -> tuple[str, list[FieldViolation]]:
    """Return the reason, empty when there is none, and the fields of a bad request."""
    reason, violations = "", []
    try:
        for detail in rpc.Status.parse(data).details:
            if detail.type_url == _ERROR_INFO:
                info = rpc.ErrorInfo.parse(detail.value)
                reason = info.reason if info.domain == _DOMAIN else reason
            elif detail.type_url == _BAD_REQUEST:
                found = rpc.BadRequest.parse(detail.value).field_violations
                violations = [FieldViolation(item.field, item.description) for item in found]
    except Exception:  # noqa: BLE001 - the decoder raises whatever it stumbles over
        # Not from a yard: the status code and its text have to do.
        return "", []
    return reason, violations


def _seconds(value: str | bytes | None) -> float | None:
    return float(value) if isinstance(value, str) and value.isdecimal() else None
