"""How a cancel reaches the process that runs the turn."""

from __future__ import annotations

import uuid

from codeyard_server.core.database import Transaction
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.scope import Scope
from codeyard_server.turns import store

SIGNAL = "turn.cancel"


class Cancellation:
    """Records the wish in the turn's row, where every renewal of the lease sees it, and sends a hint to be quick."""

    def __init__(self, fanout: FanOut) -> None:
        self._fanout = fanout

    async def request_cancel(self, tx: Transaction, scope: Scope, session_id: uuid.UUID) -> None:
        """See sessions.ports.TurnControl."""
        if await store.request_cancel(tx, scope, session_id) is not None:
            tx.after_commit(lambda: self._fanout.signal(SIGNAL, str(session_id)))
