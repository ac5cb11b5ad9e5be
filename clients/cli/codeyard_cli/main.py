"""The ``codeyard`` command: one module per group of commands, each with a function ``register(app)``.

Imports that cost time are made inside the commands, so that completion and ``--help`` answer at once. An error that the
user can act on is raised as an exception with an ``exit_status`` and ends as one line on stderr, without a traceback.
"""

from __future__ import annotations

import sys
import time

# Before anything is loaded: `up` tells how long it took, from here.
STARTED = time.monotonic()

from typing import Annotated  # noqa: E402

import typer  # noqa: E402

from codeyard_cli import agent, capability, chat, events, model, session, yard  # noqa: E402
from codeyard_cli.remote import Printing, Remote, Token, Url  # noqa: E402
from codeyard_cli.yard import Output  # noqa: E402

app = typer.Typer(
    name="codeyard",
    help="A self-hosted yard where coding agents work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from codeyard_server.settings import VERSION

        typer.echo(f"codeyard {VERSION}")
        raise typer.Exit


@app.callback()
def codeyard(
    context: typer.Context,
    url: Url = None,
    token: Token = None,
    output: Printing = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    """Run agents in a yard of your own."""
    context.obj = Remote(url, token, output or Output.TABLE)


yard.register(app, STARTED)
for commands in (agent, session, chat, events, model, capability):
    commands.register(app)


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    try:
        app()
    except Exception as error:
        status = getattr(error, "exit_status", None)
        if not isinstance(status, int):
            raise
        typer.echo(f"codeyard: {error}", err=True)
        sys.exit(status)
