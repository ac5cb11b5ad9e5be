"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import time

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0


class Backoff:
    """Growing, randomised pauses, until nobody has answered for ``patience`` seconds.

    The upper bound doubles from 0.1 s to 2 s and the pause is drawn from its upper half, so that many clients of a yard
    that restarts do not come back in step.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._bound = FIRST_SECONDS
        self._silent_since: float | None = None

    def answered(self, patience: float) -> None:
        """Stop the clock, and have this patience from now on. Pauses go on growing: there may be no progress yet."""
        self._patience = patience
        self._silent_since = None

    def progressed(self) -> None:
        """Start again from the shortest pause."""
        self._bound = FIRST_SECONDS

    def pause(self, failure: Exception) -> float:
        """Return the seconds to wait after this failure.

        Raises:
            Exception: the failure itself, when patience has run out.
        """
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        seconds = self._bound * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if now + seconds > self._silent_since + self._patience:
            raise failure
        self._bound = min(2 * self._bound, LONGEST_SECONDS)
        return seconds
