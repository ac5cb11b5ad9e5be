"""The one JSON printer: what goes into the event log, and so into every face, is printed here and nowhere else."""

from __future__ import annotations

import datetime
import json
from typing import Any


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
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def timestamp(moment: datetime.datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with Z and milliseconds."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
