"""From an exception to the wire: a gRPC status with details, and the finished HTTP body for the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from codeyard.http.v1 import options_pb2
from google.rpc import error_details_pb2, status_pb2

from codeyard_server.core import errors, telemetry

if TYPE_CHECKING:
    from codeyard_server.core.rpc import Method

log = structlog.get_logger(__name__)

DOMAIN = "codeyard"
MAX_BODY = 8192
"""Longest HTTP error body in bytes; it travels in a header."""


def http_body(failure: errors.Failure, shape: options_pb2.ErrorShape) -> str:
    """Return the JSON of an error in a family's shape, in ASCII. Details that would make it too long are left out."""
    if shape == options_pb2.ERROR_SHAPE_NESTED:
        body: dict[str, Any] = {"error": {"code": failure.reason, "message": failure.text}}
    else:
        body = {"error": failure.text, "status": failure.http_status, "code": failure.reason}
        if failure.details is not None:
            body["details"] = failure.details
    text = json.dumps(body)
    if len(text) > MAX_BODY and body.pop("details", None) is not None:
        text = json.dumps(body)
    if len(text) > MAX_BODY:
        # Only a text full of escapes gets here: six bytes for each character.
        return http_body(type(failure)(failure.text[:512]) if failure.reason != "INTERNAL" else failure, shape)
    return text


def rpc_status(failure: errors.Failure) -> status_pb2.Status:
    """Return the status with ErrorInfo, and with BadRequest where fields are named."""
    result = status_pb2.Status(code=failure.code.value[0], message=failure.text)
    result.details.add().Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN))
    if isinstance(failure.details, list) and failure.reason == "INVALID_ARGUMENT":
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=item["field"], description=item["message"])
            for item in failure.details
        ]
        result.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    return result


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], info: Method, error: BaseException, started: float
) -> None:
    """End the call with the status of the error; raises what ends a call in grpc.aio.

    A cancelled call, and one that was aborted already, pass through.
    """
    # grpc.aio raises InternalError from a write that waited for a reader who has gone.
    if isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.InternalError):
        telemetry.rpc_done(info.path, "CANCELLED", started)
        return
    if isinstance(error, grpc.aio.AbortError):
        return
    failure = error if isinstance(error, errors.Failure) else None
    if failure is None:
        log.error("rpc.fault", exc_info=error)
        failure = errors.Internal()
    elif failure.http_status >= 500:
        log.warning("rpc.failed", reason=failure.reason, cause=repr(error.__cause__))
    telemetry.rpc_done(info.path, failure.code.name, started)
    trailing: list[tuple[str, str | bytes]] = [
        ("x-http-code", str(failure.http_status)),
        ("x-error-body", http_body(failure, info.service.error_shape)),
        ("grpc-status-details-bin", rpc_status(failure).SerializeToString()),
        *failure.headers.items(),
    ]
    await context.abort(failure.code, failure.text, tuple(trailing))
