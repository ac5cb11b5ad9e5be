"""What agents and sessions show of themselves, for both kinds of clients."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from codeyard_client.gen.codeyard.agents.v1 import Agent as AgentMessage
from codeyard_client.gen.codeyard.sessions.v1 import Session as SessionMessage


class AgentFields:
    """The members of an agent. They are as of the last call that returned it."""

    message: AgentMessage
    """The agent as it was sent."""

    @property
    def id(self) -> str:
        """UUID."""
        return self.message.id

    @property
    def name(self) -> str:
        """Shown to people; not unique."""
        return self.message.name

    @property
    def description(self) -> str | None:
        """Free text."""
        return self.message.description

    @property
    def system_prompt(self) -> str:
        """What the model is told first."""
        return self.message.system_prompt

    @property
    def default_model_id(self) -> str | None:
        """Model of new sessions; None: the yard's default."""
        return self.message.default_model_id

    @property
    def tags(self) -> Sequence[str]:
        """Free labels."""
        return tuple(self.message.tags)

    @property
    def capabilities(self) -> Sequence[str]:
        """Ids of its capabilities, in order."""
        return tuple(self.message.capabilities)

    @property
    def status(self) -> str:
        """``active`` or ``archived``."""
        return self.message.status

    @property
    def created_at(self) -> datetime.datetime | None:
        """When it was created."""
        return self.message.created_at

    @property
    def updated_at(self) -> datetime.datetime | None:
        """When it was last changed."""
        return self.message.updated_at

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name!r}>"


class SessionFields:
    """The members of a session. They are as of the last call that returned it."""

    message: SessionMessage
    """The session as it was sent."""

    @property
    def id(self) -> str:
        """UUID."""
        return self.message.id

    @property
    def agent_id(self) -> str:
        """The agent it belongs to."""
        return self.message.agent_id

    @property
    def title(self) -> str | None:
        """Shown to people."""
        return self.message.title

    @property
    def tags(self) -> Sequence[str]:
        """Free labels."""
        return tuple(self.message.tags)

    @property
    def model_id(self) -> str | None:
        """Model of its turns; None: the yard's default."""
        return self.message.model_id

    @property
    def status(self) -> str:
        """``started`` (no turn yet), ``active`` (a turn runs) or ``idle``."""
        return self.message.status

    @property
    def created_at(self) -> datetime.datetime | None:
        """When it was created."""
        return self.message.created_at

    @property
    def updated_at(self) -> datetime.datetime | None:
        """When it was last changed."""
        return self.message.updated_at

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.title!r}>"
