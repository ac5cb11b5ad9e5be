"""``codeyard chat``: talk to an agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codeyard_cli.chat_view import TurnRecord, TurnView
from codeyard_cli.completion import agents, models
from codeyard_cli.failures import INTERRUPTED, TURN_FAILED, CommandError
from codeyard_cli.lookup import model_id
from codeyard_cli.output import clean, print_json
from codeyard_cli.remote import Remote, command, is_id
from codeyard_cli.yard import Output

if TYPE_CHECKING:
    from codeyard_client import AsyncClient, AsyncSession, TurnOptions

_HINT = "Ctrl-C cancels the turn, twice leaves; Ctrl-D leaves."


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "chat")
    def chat(
        remote: Remote,
        words: Annotated[
            list[str] | None,
            typer.Argument(metavar="[SESSION] MESSAGE", help="Id of a session to go on with, and what to say."),
        ] = None,
        agent: Annotated[
            str | None, typer.Option(help="Agent to talk to; else the newest.", autocompletion=agents)
        ] = None,
        title: Annotated[str | None, typer.Option(help="Title of a new session.")] = None,
        model: Annotated[str | None, typer.Option(help="Model: id or name.", autocompletion=models)] = None,
        effort: Annotated[str | None, typer.Option(help="How hard to think: low, medium, high …")] = None,
    ) -> None:
        """Talk to an agent; a new session is opened unless one is given.

        Without a message: what is piped in, or a prompt for one message after the other. The answer goes to stdout, all
        else to stderr. Ctrl-C cancels the turn; a second one leaves.
        """
        session_id, message = _split(words or [])
        if message is None and not sys.stdin.isatty():
            message = sys.stdin.read()
            if not message.strip():
                raise CommandError("there is no message, neither in the command nor on stdin")
        options = _options(remote, model, effort)
        with asyncio.Runner() as runner:
            client = remote.async_client()
            try:
                session = runner.run(_session(client, session_id, agent, title))
                if session_id is None:
                    print(f"session {clean(session.id)}", file=sys.stderr)
                if message is None:
                    _converse(runner, session, options, remote.output)
                else:
                    status = runner.run(_turn(session, message, options, remote.output))
                    if status:
                        raise typer.Exit(status)
            finally:
                runner.run(client.close())


def _split(words: list[str]) -> tuple[str | None, str | None]:
    """Return the session that the first word names, and the message that the others make."""
    session_id = words.pop(0) if words and is_id(words[0]) else None
    return session_id, " ".join(words) or None


def _options(remote: Remote, model: str | None, effort: str | None) -> TurnOptions:
    options: TurnOptions = {}
    if effort:
        options["effort"] = effort
    if model:
        with remote.client() as client:
            options["model_id"] = model_id(client, model) or model
    return options


async def _session(
    client: AsyncClient, session_id: str | None, agent_id: str | None, title: str | None
) -> AsyncSession:
    """Return the session that is named, or a new one of the agent, or of the newest agent."""
    if session_id:
        return await (client.sessions.get(agent_id, session_id) if agent_id else client.sessions.find(session_id))
    if agent_id is None:
        async for agent in client.agents.list(page_size=1):
            agent_id = agent.id
            break
        else:
            raise CommandError('there is no agent yet: codeyard agent create Helper --prompt "Answer briefly."')
    return await client.sessions.create(agent_id, title=title)


def _converse(runner: asyncio.Runner, session: AsyncSession, options: TurnOptions, output: Output) -> None:
    """Ask for messages until the input ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives the prompt its line editing

    print(_HINT, file=sys.stderr)
    while True:
        try:
            message = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        if message.strip():
            # A turn that failed or was cancelled has said so; the conversation goes on.
            runner.run(_turn(session, message, options, output))


async def _turn(session: AsyncSession, message: str, options: TurnOptions, output: Output) -> int:
    """Send a message, show its turn, and return the exit status that stands for its end."""
    from codeyard_client import CodeyardError

    record, view = TurnRecord(), TurnView(live=sys.stdout.isatty())
    interrupted = False

    async def cancel() -> None:
        nonlocal interrupted
        interrupted = True
        view.say("cancelling the turn; Ctrl-C again leaves")
        try:
            await session.cancel()
        except CodeyardError as error:
            view.say(f"it cannot be cancelled: {error}")

    async with _interrupts(cancel):
        view.wait("waiting")
        try:
            async with contextlib.aclosing(session.turn(message, **options)) as events:
                async for event in events:
                    record.take(event)
                    if output is Output.TABLE:
                        view.take(event)
                    if interrupted and event.type == "turn.started":
                        # It had not started when it was cancelled.
                        await session.cancel()
        finally:
            view.stop()
    if output is Output.JSON:
        print_json({"agent_id": session.agent_id, "session_id": session.id, **record.to_json()})
    elif record.error_code:
        view.say(f"the turn failed: {record.error} ({record.error_code})")
    if record.error_code is None:
        return 0
    return INTERRUPTED if interrupted and record.error_code == "cancelled" else TURN_FAILED


@contextlib.asynccontextmanager
async def _interrupts(first: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run ``first`` at the first Ctrl-C, and leave the program at the second."""
    loop, turn = asyncio.get_running_loop(), asyncio.current_task()
    running: list[asyncio.Task[None]] = []

    def interrupt() -> None:
        if not running:
            running.append(loop.create_task(first()))
        elif turn is not None:
            turn.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
