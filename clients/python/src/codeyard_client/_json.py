"""Messages as plain JSON values, as the REST face prints them."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, cast

import betterproto2

from codeyard_client.gen.google.protobuf import ListValue, Struct, Value


def to_json(value: Any) -> Any:
    """Return a message as a JSON value: members in snake_case, absent ones left out, times in RFC 3339 (UTC).

    Numbers of free-form members travel as doubles; whole ones come back as integers.
    """
    if isinstance(value, Struct | ListValue | Value):
        return _free(value.to_dict())
    if isinstance(value, betterproto2.Message):
        # Every generated message is a dataclass; their common base is not.
        names = [field.name for field in dataclasses.fields(cast(Any, value))]
        members = ((name, getattr(value, name)) for name in names)
        return {name.rstrip("_"): to_json(member) for name, member in members if member is not None}
    if isinstance(value, datetime.datetime):
        return _time(value.astimezone(datetime.UTC))
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def _time(value: datetime.datetime) -> str:
    digits = "seconds" if not value.microsecond else "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.isoformat(timespec=digits).replace("+00:00", "Z")


def _free(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _free(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_free(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
