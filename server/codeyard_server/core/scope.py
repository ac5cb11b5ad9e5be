"""On whose behalf something happens. Every store function takes a Scope; what it may see is decided in the query."""

from __future__ import annotations

import dataclasses
import enum
import uuid


class Role(enum.StrEnum):
    """A role of an account. An administrator may do everything a user may."""

    ADMIN = "admin"
    USER = "user"


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """This user with these roles, or the system's job.

    ``user_id`` is None exactly for a job; ``job`` names it, for the log and the audit trail.
    """

    user_id: uuid.UUID | None
    roles: frozenset[Role] = frozenset()
    job: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether administration is allowed. A job may do what its code does."""
        return self.job is not None or Role.ADMIN in self.roles

    @classmethod
    def system(cls, job: str) -> Scope:
        """Return the scope of the job with this name."""
        return cls(user_id=None, job=job)
