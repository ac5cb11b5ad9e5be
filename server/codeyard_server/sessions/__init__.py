"""Sessions: conversations with an agent, their messages and their event log.

Other domains may call: the words of a session's status, :data:`RUN_TURN`, and :class:`TurnControl`, which whoever runs
the turns implements.
"""

from codeyard_server.sessions.jobs import RUN_TURN
from codeyard_server.sessions.logic import ACTIVE, IDLE, STARTED
from codeyard_server.sessions.ports import TurnControl

__all__ = ["ACTIVE", "IDLE", "RUN_TURN", "STARTED", "TurnControl"]
