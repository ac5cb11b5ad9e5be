"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import time

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0


class Backoff:
    """Growing, randomised pauses, until nothing has succeeded for ``patience`` seconds.

    The upper bound doubles from 0.1 s to 2 s and the pause is drawn from its upper half, so that many clients of a yard
    that restarts do not come back in step.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.succeeded()

    def succeeded(self) -> None:
        """Start again from the shortest pause."""
        self._since = time.monotonic()
        self._bound = FIRST_SECONDS

    def pause(self, failure: Exception) -> float:
        """Return the seconds to wait after this failure.

        Raises:
            Exception: the failure itself, when patience has run out.
        """
        seconds = self._bound * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if time.monotonic() + seconds > self._since + self._patience:
            raise failure
        self._bound = min(2 * self._bound, LONGEST_SECONDS)
        return seconds
