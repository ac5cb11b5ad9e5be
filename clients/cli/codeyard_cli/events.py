"""``codeyard events``: the log of a session."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from codeyard_cli import lookup
from codeyard_cli.completion import agents
from codeyard_cli.output import clean, print_json, short
from codeyard_cli.remote import Remote, command
from codeyard_cli.yard import Output

if TYPE_CHECKING:
    from codeyard_client import Event


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "events")
    def events(
        remote: Remote,
        session: Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")],
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with the events to come.")] = False,
        since: Annotated[str | None, typer.Option(metavar="ID", help="Only after the event with this id.")] = None,
        agent: Annotated[
            str | None, typer.Option(help="Its agent, where known; else all are asked.", autocompletion=agents)
        ] = None,
    ) -> None:
        """Print the events of a session; with --output json one object per line.

        A connection that breaks is made again; no stored event is lost or printed twice.
        """
        with remote.client() as client:
            found = lookup.session(client, session, agent)
            if not follow:
                _print(found.stored_events(since=since), remote.output)
                return
            _report_interruptions()
            with contextlib.closing(found.events(since=since)) as stream:
                _print(stream, remote.output)


def _print(stream: Iterable[Event], output: Output) -> None:
    for event in stream:
        if output is Output.JSON:
            print_json(event.to_json(), indent=None)
        else:
            print(_line(event), flush=True)


def _line(event: Event) -> str:
    time = event.ts.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{time} {event.sequence or '':>5}  {clean(event.type):<20}  {short(_summary(event), 100)}"


def _summary(event: Event) -> str:
    from codeyard_client import text_of, types

    match event.data:
        case types.MessageStored(message=types.EventMessage() as message) if text := text_of(message):
            return text
        case types.MessageDelta(delta=text):
            return text
    return json.dumps(event.to_json()["data"], ensure_ascii=False)


def _report_interruptions() -> None:
    """Let the client say on stderr when a stream is cut and resumed."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("codeyard: %(message)s"))
    logger = logging.getLogger("codeyard_client")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
