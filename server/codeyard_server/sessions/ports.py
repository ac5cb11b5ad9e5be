"""What sessions ask of the domain that runs their turns."""

from __future__ import annotations

import uuid
from typing import Protocol

from codeyard_server.core.database import Transaction
from codeyard_server.core.scope import Scope


class TurnControl(Protocol):
    """Ends turns from outside."""

    async def request_cancel(self, tx: Transaction, scope: Scope, session_id: uuid.UUID) -> None:
        """Ask the turn that runs, if one does, to end as cancelled; whoever runs it is told after the commit."""
        ...
