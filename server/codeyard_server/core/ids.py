"""UUIDv7 identifiers (RFC 9562 §5.7) that strictly grow within a process."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_lock = threading.Lock()
_last_ms = 0
_counter = 0
_COUNTER_BITS = 18


def new_id() -> uuid.UUID:
    """Return a UUIDv7 greater than every one this process has returned before.

    The 12 bits of rand_a and the first 6 of rand_b count within a millisecond (RFC 9562 §6.2, method 1), the rest is
    random. When the counter is used up or the clock steps back, the last millisecond is carried on.
    """
    global _last_ms, _counter  # noqa: PLW0603 - one clock for the whole process
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms, _counter = now, secrets.randbits(_COUNTER_BITS - 2)
        else:
            _counter += 1
            if _counter >> _COUNTER_BITS:
                _last_ms, _counter = _last_ms + 1, 0
        milliseconds, counter = _last_ms, _counter
    high, low = counter >> 6, counter & 0x3F
    value = milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low << 56 | secrets.randbits(56)
    return uuid.UUID(int=value)
