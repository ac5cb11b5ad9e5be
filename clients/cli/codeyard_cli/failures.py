"""How a command that talks to a yard ends.

====  ==============================================================
0     done
1     the yard reported a failure
2     wrong usage
3     the yard cannot be reached
4     there is no such object
5     the turn ended without an answer
130   interrupted
====  ==============================================================
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from codeyard_cli.output import clean, json_text
from codeyard_cli.yard import Output

if TYPE_CHECKING:
    from codeyard_client import CodeyardError

FAILED, USAGE, NO_CONNECTION, NOT_FOUND, TURN_FAILED, INTERRUPTED = 1, 2, 3, 4, 5, 130


class CommandError(Exception):
    """The command cannot do what was asked; the text is for the user."""

    def __init__(self, text: str, exit_status: int = USAGE) -> None:
        super().__init__(text)
        self.exit_status = exit_status


@contextlib.contextmanager
def as_exit_status(output: Output) -> Iterator[None]:
    """Turn a failure into one line on stderr (with ``--output json`` a JSON object) and an exit status."""
    from codeyard_client import CodeyardError

    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except CommandError as error:
        _tell({"error": str(error)}, output)
        raise typer.Exit(error.exit_status) from None
    except CodeyardError as error:
        members: dict[str, object] = {"error": _text(error), "code": error.reason}
        if error.details:
            members["details"] = [{"field": item.field, "message": item.message} for item in error.details]
        if error.request_id:
            members["request_id"] = error.request_id
        _tell(members, output)
        raise typer.Exit(exit_status(error)) from None


def exit_status(error: CodeyardError) -> int:
    """Return the exit status that stands for a failure."""
    from codeyard_client import errors

    kinds = {errors.NotFound: NOT_FOUND, errors.TurnFailed: TURN_FAILED, errors.ConnectionFailed: NO_CONNECTION}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), FAILED)


def _text(error: CodeyardError) -> str:
    from codeyard_client import errors

    if isinstance(error, errors.ConnectionFailed):
        return f"cannot reach the yard: {error}. Does it run? See codeyard status, or codeyard up"
    if isinstance(error, errors.Unauthenticated):
        return f"{error}. Give a key with --token or CODEYARD_TOKEN"
    return str(error)


def _tell(members: dict[str, object], output: Output) -> None:
    if output is Output.JSON:
        print(json_text(members), file=sys.stderr)
    else:
        # Only a fault of the yard is looked for in its log.
        request = members.get("request_id") if members.get("code") == "INTERNAL" else None
        print(f"codeyard: {clean(str(members['error']))}{f' (request {request})' if request else ''}", file=sys.stderr)
