"""Turns: the loop that answers messages. Its state is in the event log; whoever holds the lease carries it on.

The composition root may use: :class:`TurnRunner`, :class:`TurnSettings`, :class:`Generator`, :class:`Cancellation`.
"""

from codeyard_server.turns.cancellation import Cancellation
from codeyard_server.turns.generation import Generator
from codeyard_server.turns.runner import TurnRunner
from codeyard_server.turns.settings import TurnSettings

__all__ = ["Cancellation", "Generator", "TurnRunner", "TurnSettings"]
