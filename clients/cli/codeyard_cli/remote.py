"""What every command that talks to a yard shares: where it is, the credential, how to print, how to fail.

A command is a function whose first parameter is a :class:`Remote`; :func:`command` adds the common options to it. They
can stand before the command's name as well.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import pathlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from codeyard_cli.failures import CommandError, as_exit_status
from codeyard_cli.output import print_whatever_the_encoding
from codeyard_cli.yard import Output

if TYPE_CHECKING:
    from codeyard_client import AsyncClient, Client

Url = Annotated[
    str | None, typer.Option("--url", help="Address of the yard. Default: CODEYARD_URL, else the one of this machine.")
]
Token = Annotated[
    str | None, typer.Option("--token", help="API key. Default: CODEYARD_TOKEN, else the key of this machine's yard.")
]
Printing = Annotated[Output | None, typer.Option("--output", "-o", help="How to print; table by default.")]

# A person waits at the terminal: less patience than a program has.
_RETRY_SECONDS = 2.0
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Where(TypedDict):
    """The arguments that open a client."""

    url: str | None
    token: str | None
    retry_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """The yard that a command talks to, and how it prints."""

    url: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    output: Output = Output.TABLE

    def client(self) -> Client:
        """Return a blocking client.

        Raises:
            CommandError: URL or token are malformed.
        """
        from codeyard_client import Client

        try:
            return Client(**self.where())
        except ValueError as error:
            raise CommandError(str(error)) from None

    def async_client(self) -> AsyncClient:
        """Return an asynchronous client.

        Raises:
            CommandError: URL or token are malformed.
        """
        from codeyard_client import AsyncClient

        try:
            return AsyncClient(**self.where())
        except ValueError as error:
            raise CommandError(str(error)) from None

    def where(self) -> Where:
        """Return what opens a client. The key of this machine's yard goes nowhere but to that yard."""
        url = self.url or os.environ.get("CODEYARD_URL") or None
        token = self.token or os.environ.get("CODEYARD_TOKEN") or None
        if not (url and token):
            from codeyard_server.supervisor import Layout, YardError, read_status

            folder = os.environ.get("CODEYARD_DATA")
            try:
                local = read_status(Layout.at(pathlib.Path(folder) if folder else None))
            except YardError:
                local = None
            if local and local.is_running and url in (None, local.url):
                url, token = local.url, token or local.token
        return {"url": url, "token": token, "retry_seconds": _RETRY_SECONDS}


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function to an app under this name, with the common options, and with failures as exit status."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(context: typer.Context, url: Any, token: Any, output: Any, **arguments: Any) -> None:
            before: Remote = context.obj or Remote()
            remote = Remote(url or before.url, token or before.token, output or before.output)
            print_whatever_the_encoding()
            with as_exit_status(remote.output):
                function(remote, **arguments)

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        common = {"url": Url, "token": Token, "output": Printing}
        parameters = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
            *(
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for option, annotation in common.items()
            ),
        ]
        # Typer reads the options from here.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # set by whoever wraps
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(run)
        return function

    return add


def is_id(text: str) -> bool:
    """Whether this is the id of an object, and not a name or a word."""
    return _UUID.fullmatch(text) is not None
