"""The clock, as a parameter: tests set it, the composition root gives the real one."""

from __future__ import annotations

import datetime
from collections.abc import Callable

Clock = Callable[[], datetime.datetime]
"""Returns the time now, aware, in UTC."""


def utc_now() -> datetime.datetime:
    """Return the time now in UTC."""
    return datetime.datetime.now(datetime.UTC)
