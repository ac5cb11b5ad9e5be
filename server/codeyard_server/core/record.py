"""One event as it travels through the server."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence


@dataclasses.dataclass(slots=True)
class Record:
    """A stored event, or a live-only one (``seq`` 0, no ``id``).

    ``data`` is the payload's JSON text, printed once. ``frames`` caches what a face has made of the event: the bytes
    are shared by all its subscribers.
    """

    stream_id: uuid.UUID
    seq: int
    id: uuid.UUID | None
    type: str
    data: str
    created_at: datetime.datetime
    turn_id: uuid.UUID | None = None
    input_message_id: uuid.UUID | None = None
    exec_id: uuid.UUID | None = None
    tags: Sequence[str] | None = None
    frames: dict[str, bytes] = dataclasses.field(default_factory=dict, compare=False, repr=False)
