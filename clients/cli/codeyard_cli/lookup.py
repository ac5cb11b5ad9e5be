"""From what a person types to the id that the API wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codeyard_cli.failures import NOT_FOUND, CommandError
from codeyard_cli.remote import is_id

if TYPE_CHECKING:
    from codeyard_client import Client, Session


def model_id(client: Client, text: str | None) -> str | None:
    """Return the id of a model from its id or its name; None stays None.

    Raises:
        CommandError: no usable model has this name, or several have.
    """
    if text is None or is_id(text):
        return text
    return _only("model", text, [m.id for m in client.models.list() if text in (m.model_id, m.display_name)])


def provider_id(client: Client, text: str) -> str:
    """Return the id of a provider from its id or its name.

    Raises:
        CommandError: no provider has this name, or several have.
    """
    if is_id(text):
        return text
    return _only("provider", text, [p.id for p in client.providers.list() if p.name == text])


def session(client: Client, session_id: str, agent_id: str | None) -> Session:
    """Return a session; without its agent, every active agent is asked.

    Raises:
        NotFound: there is none.
    """
    return client.sessions.get(agent_id, session_id) if agent_id else client.sessions.find(session_id)


def _only(kind: str, name: str, found: list[str]) -> str:
    if len(found) > 1:
        raise CommandError(f"several {kind}s are called {name}; give one of the ids {', '.join(found)}")
    if not found:
        raise CommandError(f"no {kind} is called {name}", NOT_FOUND)
    return found[0]
