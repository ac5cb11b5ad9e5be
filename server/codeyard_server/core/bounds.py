"""The bounds that the protos give their fields, checked by protovalidate."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from codeyard_server.core import errors

_MAX_DETAILS = 20
_MAX_IN_TEXT = 3


def check_bounds(message: Message) -> None:
    """Check a message against the annotations of its fields.

    Raises:
        InvalidArgument: it breaks a bound; details name the fields.
    """
    violations = protovalidate.collect_violations(message)
    if not violations:
        return
    fields = []
    for violation in violations[:_MAX_DETAILS]:
        field = violation.proto.field
        path = ".".join(element.field_name for element in field.elements) if field else ""
        fields.append({"field": path or "request", "message": violation.proto.message})
    text = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:_MAX_IN_TEXT])
    raise errors.InvalidArgument(text, details=fields)
