"""Keyset paging: a page token is the sort key of the last row, so that a page costs the same wherever it lies."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import uuid

from codeyard_server.core import errors

DEFAULT_LIMIT = 1000
PAGE_BYTES = 2 * 1024 * 1024
"""A page ends early where its rows hold more, but never before its first row. In JSON a byte can become six, and a list
is sent twice; the gateway takes answers up to 32 MiB, and a gRPC client by default 4 MiB."""


def encode(created_at: datetime.datetime, row_id: uuid.UUID) -> str:
    """Return the token for "after this row" in the order (created_at, id)."""
    text = json.dumps([created_at.isoformat(), str(row_id)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(token: str) -> tuple[datetime.datetime, uuid.UUID]:
    """Return the sort key a token holds.

    Raises:
        InvalidArgument: it is not one of ours.
    """
    try:
        text, row_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        moment = datetime.datetime.fromisoformat(text)
        if moment.utcoffset() is None:
            raise ValueError("a time without a zone")
        return moment.astimezone(datetime.UTC), uuid.UUID(row_id)
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise errors.InvalidArgument("page_token is not a token of this list") from error
