"""Bounds of the loop."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class TurnSettings:
    """Bounds of a turn; times in seconds."""

    max_iterations: int = 10
    """Model calls a turn may make."""
    turn_timeout: float = 600.0
    lease: float = 3.0
    """How long a turn stays with a process that no longer renews its lease."""
    model_attempts: int = 4
    """Attempts of one model call, the first included."""
    retry_initial: float = 0.5
    retry_max: float = 10.0
    max_calls: int = 64
    """Tool calls of one model reply that are run; the others end as errors the model can read."""
    history_bytes: int = 16 * 1024 * 1024
    """Most bytes of stored messages that a model is given; of a longer conversation, the newest."""
    tool_output_bytes: int = 200_000
    """Longest JSON of one tool's answer; more is replaced by an error the model can read."""
