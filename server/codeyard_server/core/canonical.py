"""The one JSON printer: what goes into the event log, and so into every face, is printed here and nowhere else."""

from __future__ import annotations

import datetime
import json
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

MAX_DEPTH = 30
"""Deepest nesting of free JSON that every face can carry: decoders stop at 100 messages, and an object takes three."""


def is_too_deep(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are nested in value by more than depth levels."""
    if not isinstance(value, dict | list | tuple):
        return False
    items = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(is_too_deep(item, depth - 1) for item in items)


def integral(value: Any) -> Any:
    """Return value with whole floats below 2^53 as ints: a protobuf Struct knows only doubles."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: integral(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [integral(item) for item in value]
    return value


def text(value: Any) -> str:
    """Return value as compact JSON: members in the order given, non-ASCII as it is.

    Raises:
        ValueError: NaN or an infinity, which JSON does not have.
    """
    return _encode(value)


def timestamp(moment: datetime.datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with Z and milliseconds."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
