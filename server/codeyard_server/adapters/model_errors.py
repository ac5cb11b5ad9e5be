"""Turns what the vendors' SDKs raise into :class:`ModelError`.

Both SDKs come from one generator and agree in the shape of their errors, so one reading serves both: ``response`` where
there was an answer, ``body`` where the vendor explained itself, and where there was no answer the HTTP library's
exception as the cause.
"""

from __future__ import annotations

import datetime
import email.utils
import math
from collections.abc import Mapping

import httpx2

from codeyard_server.models.ports import ModelError

_RETRYABLE_STATUSES = frozenset({408, 409, 429})
"""Besides all of 500 and above: request timeout, lock conflict, rate limit."""

_PERMANENT_KINDS = frozenset(
    {
        "authentication_error",
        "billing_error",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_request_error",
        "model_not_found",
        "not_found_error",
        "permission_error",
        "request_too_large",
    }
)
"""Types and codes of vendors' errors that a second try meets again, whatever the status says."""

_MAX_TEXT = 500


def model_error(error: Exception, *, vendor: str, secret: str) -> ModelError:
    """Return the ModelError for anything that a call of an SDK, or reading its stream, raised.

    Args:
        error: what was raised.
        vendor: begins the text.
        secret: the key; servers repeat it in their messages, so it is blotted out.
    """
    if isinstance(error, ModelError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, httpx2.Response) and not response.is_success:
        return _status_error(response, getattr(error, "body", None), vendor, secret)
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
    if isinstance(cause, httpx2.TimeoutException):
        return ModelError(f"{vendor} did not answer in time ({type(cause).__name__})", retryable=True)
    if isinstance(cause, httpx2.HTTPError):
        text = _clean(f"{type(cause).__name__} {cause}", secret)
        return ModelError(f"{vendor}: the connection failed: {text}", retryable=True)
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        return _stream_error(body, vendor, secret)
    # Whatever else: the vendor's bytes did not have the form that the SDK, or the driver, reads.
    return ModelError(f"{vendor}: the answer is malformed ({type(error).__name__})", retryable=True)


def retry_after_seconds(headers: Mapping[str, str], now: datetime.datetime) -> float | None:
    """Return how long a server asks to wait, in seconds from now on; None when it does not say.

    Understands ``retry-after-ms`` and both forms of ``Retry-After`` (RFC 9110 §10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - now).total_seconds())


def _status_error(response: httpx2.Response, body: object, vendor: str, secret: str) -> ModelError:
    status = response.status_code
    if response.is_redirect:
        return ModelError(f"{vendor} answered {status}: redirects are not followed", retryable=False)
    kinds, message = _explanation(body)
    wish = response.headers.get("x-should-retry")
    retryable = status in _RETRYABLE_STATUSES or status >= 500
    if wish in ("true", "false"):
        retryable = wish == "true"
    return ModelError(
        f"{vendor} answered {status}: {_clean(message, secret)}",
        retryable=retryable and "insufficient_quota" not in kinds,
        retry_after=retry_after_seconds(response.headers, datetime.datetime.now(datetime.UTC)),
    )


def _stream_error(body: Mapping[str, object], vendor: str, secret: str) -> ModelError:
    """Read an error that came inside a stream, after the status 200."""
    kinds, message = _explanation(body)
    statuses = [int(kind) for kind in kinds if kind.isdecimal()]
    permanent = kinds & _PERMANENT_KINDS or any(
        400 <= status < 500 and status not in _RETRYABLE_STATUSES for status in statuses
    )
    return ModelError(f"{vendor} broke off: {_clean(message, secret)}", retryable=not permanent)


def _explanation(body: object) -> tuple[set[str], str]:
    """Return the types and codes of an error body, and its text."""
    if not isinstance(body, Mapping):
        return set(), str(body or "no explanation")
    inner = body.get("error")
    error = inner if isinstance(inner, Mapping) else body
    kinds = {str(error[name]) for name in ("type", "code") if error.get(name)}
    message = error.get("message") or (inner if isinstance(inner, str) else None) or error.get("detail")
    return kinds, str(message or ", ".join(sorted(kinds)) or "no explanation")


def _clean(text: str, secret: str) -> str:
    """Return vendor's text on one line, without the key and not endless."""
    line = " ".join((text.replace(secret, "[key]") if secret else text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
