"""``codeyard capability``: what agents can do."""

from __future__ import annotations

from typing import Annotated

import typer

from codeyard_cli.completion import capabilities
from codeyard_cli.output import show, show_list
from codeyard_cli.remote import Remote, command

group = typer.Typer(help="What agents can do.", no_args_is_help=True)

_COLUMNS = {"ID": "id", "NAME": "name", "STATUS": "status", "DESCRIPTION": "description"}


@command(group, "list")
def list_capabilities(remote: Remote) -> None:
    """List the catalogue."""
    with remote.client() as client:
        show_list(client.capabilities.list(), remote.output, _COLUMNS)


@command(group, "get")
def get(
    remote: Remote,
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", autocompletion=capabilities)],
) -> None:
    """Show one capability with its tools."""
    with remote.client() as client:
        show(client.capabilities.get(capability), remote.output)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="capability")
