"""``codeyard up``, ``status``, ``down`` and ``server``: run a yard on this machine.

Their exit statuses are those of :mod:`codeyard_server.supervisor.errors`.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from codeyard_server.supervisor import Layout, YardStatus

Data = Annotated[
    pathlib.Path | None,
    typer.Option("--data", envvar="CODEYARD_DATA", show_envvar=True, help="Data folder; a default one without it."),
]

_POLL_SECONDS = 0.05
_EXIT_STATUSES = (
    "Exit status: 0 done · 1 a part did not start or stop · 2 wrong usage or settings · 3 no yard runs (status)"
    " · 4 a yard runs there already · 5 the port is taken · 6 the data folder cannot be used"
)


class Output(enum.StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer, started: float) -> None:
    """Add the commands; ``started`` is the ``time.monotonic()`` at which the process began."""

    @app.command(epilog=_EXIT_STATUSES)
    def up(
        detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready, and let it run.")] = False,
        host: Annotated[str, typer.Option(help="IP address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
        data: Data = None,
        processes: Annotated[int, typer.Option(min=1, max=64, help="Number of server processes.")] = 2,
        log_only: Annotated[bool, typer.Option(hidden=True)] = False,
    ) -> None:
        """Start the yard: database, servers and gateway. Runs in the foreground until Ctrl-C unless detached."""
        from codeyard_server.supervisor import Layout

        layout = Layout.at(data)
        if detach:
            _detach(layout, ["--host", host, "--port", str(port), "--processes", str(processes)])
        else:
            _run(layout, host, port, processes, started, show_summary=not log_only)

    @app.command(epilog=_EXIT_STATUSES)
    def status(
        data: Data = None,
        output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
    ) -> None:
        """Show whether the yard runs, where, and its processes. Exit status 3 when it does not run."""
        from codeyard_server.supervisor import NOT_RUNNING_STATUS, Layout, read_status

        found = read_status(Layout.at(data))
        typer.echo(json.dumps(found.to_json(), indent=2) if output is Output.JSON else _table(found))
        if not found.is_running:
            raise typer.Exit(NOT_RUNNING_STATUS)

    @app.command(epilog=_EXIT_STATUSES)
    def down(data: Data = None) -> None:
        """Stop the yard and wait until nothing of it is left. No error when none runs."""
        from codeyard_server.supervisor import Layout, stop

        layout = Layout.at(data)
        typer.echo("stopped" if stop(layout) else f"no yard runs in {layout.data}")

    @app.command()
    def server() -> None:
        """Run one server process, set up by environment variables only (docs/settings.md)."""
        os.execv(sys.executable, [sys.executable, "-P", "-m", "codeyard_server"])  # noqa: S606 - no shell is the point


def _run(layout: Layout, host: str, port: int, processes: int, started: float, *, show_summary: bool) -> None:
    import asyncio

    from codeyard_server.supervisor.run import YardOptions, run_yard

    def say(line: str) -> None:
        # A terminal that was closed, or `| head`, is no reason for the yard to stop.
        with contextlib.suppress(OSError):
            typer.echo(line, err=True)

    def show(text: str) -> None:
        # The summary holds the token, and a detached yard's output is a log file.
        if show_summary:
            with contextlib.suppress(OSError):
                typer.echo(text)

    asyncio.run(run_yard(YardOptions(layout, host, port, processes), say, show, started))


def _detach(layout: Layout, options: list[str]) -> None:
    """Start the supervisor in a session of its own, pass its progress on until it is ready, and let it run."""
    from codeyard_server.supervisor import logs, read_status
    from codeyard_server.supervisor.report import summary

    layout.create()
    log = layout.logs / "yard.log"
    shown = logs.size(log)
    command = [
        sys.executable,
        "-P",
        "-m",
        "codeyard_cli",
        "up",
        "--log-only",
        "--data",
        str(layout.data),
        *options,
    ]
    descriptor = logs.open_log(log)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True
        )
    finally:
        os.close(descriptor)
    while True:
        status, ended = read_status(layout), process.poll()
        with log.open("rb") as file:
            file.seek(shown)
            news = file.read()
        shown += len(news)
        typer.echo(news.decode(errors="replace"), nl=False, err=True)
        if ended is not None:
            raise typer.Exit(ended)
        if status.state == "ready" and status.supervisor == process.pid:
            typer.echo(summary(status))
            return
        time.sleep(_POLL_SECONDS)


def _table(status: YardStatus) -> str:
    lines = [f"yard   {status.state}", f"data   {status.data}"]
    if status.is_running:
        lines += [
            f"url    {status.url or '-'}",
            f"token  {status.token or '-'}",
            f"code   {status.version}",
            "",
        ]
        lines += [f"{'PROCESS':<12}{'PID':>8}  {'RESTARTS':>8}  STATE"]
        lines += [f"{row.name:<12}{row.pid or '-':>8}  {row.restarts:>8}  {row.state}" for row in status.processes]
    return "\n".join(lines)
