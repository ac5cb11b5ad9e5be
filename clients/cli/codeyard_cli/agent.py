"""``codeyard agent``: stored agents."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from codeyard_cli.completion import agents, capabilities, models
from codeyard_cli.failures import CommandError
from codeyard_cli.lookup import model_id
from codeyard_cli.output import show, show_list
from codeyard_cli.remote import Remote, command

group = typer.Typer(help="Stored agents.", no_args_is_help=True)

AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent.", autocompletion=agents)]
Prompt = Annotated[str | None, typer.Option("--prompt", help="What the model is told first.")]
PromptFile = Annotated[
    pathlib.Path | None, typer.Option("--prompt-file", exists=True, dir_okay=False, help="The same, from a file.")
]
Description = Annotated[str | None, typer.Option(help="Free text.")]
Model = Annotated[str | None, typer.Option(help="Default model: id or name.", autocompletion=models)]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Label; can be repeated.")]
Capabilities = Annotated[
    list[str] | None,
    typer.Option("--capability", "-c", help="What it can do; can be repeated.", autocompletion=capabilities),
]

_COLUMNS = {"ID": "id", "NAME": "name", "CAPABILITIES": "capabilities", "TAGS": "tags", "UPDATED": "updated_at"}


def _prompt(text: str | None, file: pathlib.Path | None) -> str | None:
    if text is not None and file is not None:
        raise CommandError("give --prompt or --prompt-file, not both")
    return text if file is None else file.read_text(encoding="utf-8")


@command(group, "create")
def create(
    remote: Remote,
    name: Annotated[str, typer.Argument(help="Shown to people.")],
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    description: Description = None,
    model: Model = None,
    tag: Tags = None,
    capability: Capabilities = None,
) -> None:
    """Create an agent."""
    with remote.client() as client:
        agent = client.agents.create(
            name,
            _prompt(prompt, prompt_file) or "",
            description=description,
            default_model_id=model_id(client, model),
            tags=tag or (),
            capabilities=capability or (),
        )
    show(agent.message, remote.output)


@command(group, "list")
def list_agents(remote: Remote) -> None:
    """List the active agents, newest first."""
    with remote.client() as client:
        show_list([agent.message for agent in client.agents.list()], remote.output, _COLUMNS)


@command(group, "get")
def get(remote: Remote, agent: AgentId) -> None:
    """Show one agent."""
    with remote.client() as client:
        show(client.agents.get(agent).message, remote.output)


@command(group, "update")
def update(
    remote: Remote,
    agent: AgentId,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    description: Description = None,
    model: Model = None,
    tag: Tags = None,
    capability: Capabilities = None,
    restore: Annotated[bool, typer.Option("--restore", help="Take it out of the archive.")] = False,
) -> None:
    """Change what is given. Tags and capabilities are replaced as a whole; --tag '' removes all."""
    with remote.client() as client:
        found = client.agents.get(agent)
        found.update(
            name=name,
            description=description,
            system_prompt=_prompt(prompt, prompt_file),
            default_model_id=model_id(client, model),
            tags=None if tag is None else list(filter(None, tag)),
            capabilities=None if capability is None else list(filter(None, capability)),
            status="active" if restore else None,
        )
    show(found.message, remote.output)


@command(group, "archive")
def archive(remote: Remote, agent: AgentId) -> None:
    """Take an agent out of the list; its sessions stay."""
    with remote.client() as client:
        found = client.agents.get(agent)
        found.archive()
    show(found.message, remote.output)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="agent")
