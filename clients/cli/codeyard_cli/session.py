"""``codeyard session``: conversations with agents."""

from __future__ import annotations

from typing import Annotated

import typer

from codeyard_cli import lookup
from codeyard_cli.completion import agents, models
from codeyard_cli.output import show, show_list
from codeyard_cli.remote import Remote, command

group = typer.Typer(help="Conversations with agents.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]
OfAgent = Annotated[
    str | None, typer.Option("--agent", help="Its agent, where known; else all are asked.", autocompletion=agents)
]

_COLUMNS = {"ID": "id", "TITLE": "title", "STATUS": "status", "AGENT": "agent_id", "UPDATED": "updated_at"}


@command(group, "create")
def create(
    remote: Remote,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.", autocompletion=agents)],
    title: Annotated[str | None, typer.Option(help="Shown to people.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Label; can be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Model: id or name.", autocompletion=models)] = None,
) -> None:
    """Open a session. Nothing runs until a message arrives."""
    with remote.client() as client:
        model_id = lookup.model_id(client, model)
        opened = client.sessions.create(agent, title=title, tags=tag or (), model_id=model_id)
    show(opened.message, remote.output)


@command(group, "list")
def list_sessions(
    remote: Remote,
    agent: Annotated[str | None, typer.Argument(metavar="[AGENT]", help="Of one agent.", autocompletion=agents)] = None,
) -> None:
    """List the sessions of an agent, or of all active agents, newest first."""
    with remote.client() as client:
        owners = [agent] if agent else [owner.id for owner in client.agents.list()]
        found = [session.message for owner in owners for session in client.sessions.list(owner)]
    # Ids are made of the time, so they sort by it.
    show_list(sorted(found, key=lambda session: session.id, reverse=True), remote.output, _COLUMNS)


@command(group, "get")
def get(remote: Remote, session: SessionId, agent: OfAgent = None) -> None:
    """Show one session."""
    with remote.client() as client:
        show(lookup.session(client, session, agent).message, remote.output)


@command(group, "delete")
def delete(remote: Remote, session: SessionId, agent: OfAgent = None) -> None:
    """Delete a session with its messages, events and files. A running turn is cancelled."""
    with remote.client() as client:
        found = lookup.session(client, session, agent)
        found.delete()
    show(found.message, remote.output)


@command(group, "cancel")
def cancel(remote: Remote, session: SessionId, agent: OfAgent = None) -> None:
    """Cancel the turn that runs, if one does."""
    with remote.client() as client:
        found = lookup.session(client, session, agent)
        found.cancel()
    show(found.message, remote.output)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="session")
