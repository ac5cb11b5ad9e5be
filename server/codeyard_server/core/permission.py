"""What a caller can be allowed to do. Which object he may do it to is in the predicate of each query."""

from __future__ import annotations

import enum


class Permission(enum.StrEnum):
    """A permission; its value is the word in an API key's scopes."""

    AGENT_READ = "agents:read"
    AGENT_WRITE = "agents:write"
    CAPABILITY_READ = "capabilities:read"
    CAPABILITY_WRITE = "capabilities:write"
    MODEL_READ = "models:read"
    MODEL_WRITE = "models:write"
    SESSION_READ = "sessions:read"
    SESSION_WRITE = "sessions:write"


ADMIN_ONLY = frozenset({Permission.MODEL_WRITE})
"""Permissions that only an administrator can hold."""
