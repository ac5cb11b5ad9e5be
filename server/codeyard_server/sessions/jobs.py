"""The job a message makes: see that the session's waiting messages are answered."""

from __future__ import annotations

import uuid

from codeyard_server.core.database import Transaction
from codeyard_server.core.queue import Queue

RUN_TURN = "turn"


async def enqueue_turn(queue: Queue, tx: Transaction, session_id: uuid.UUID) -> None:
    """Enqueue the job; its payload is the session's id in 16 bytes."""
    await queue.enqueue(tx, RUN_TURN, session_id.bytes)
