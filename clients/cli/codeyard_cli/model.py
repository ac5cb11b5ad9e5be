"""``codeyard model``: model providers and their models. Changing them takes an administrator."""

from __future__ import annotations

import enum
import pathlib
import sys
from typing import Annotated

import typer

from codeyard_cli.completion import models
from codeyard_cli.lookup import model_id, provider_id
from codeyard_cli.output import show, show_list
from codeyard_cli.remote import Remote, command

group = typer.Typer(help="Models and their providers.", no_args_is_help=True)

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="Id or name of the provider.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Id or name of the model.", autocompletion=models)]

_MODELS = {
    "ID": "id",
    "NAME": "model_id",
    "TITLE": "display_name",
    "PROVIDER": "provider_name",
    "DEFAULT": "is_default",
    "STATUS": "status",
}
_PROVIDERS = {
    "ID": "id",
    "NAME": "name",
    "TYPE": "provider_type",
    "KEY": "api_key_set",
    "DEFAULT": "is_default",
    "STATUS": "status",
    "URL": "base_url",
}


class ProviderType(enum.StrEnum):
    """The protocols that a yard speaks to models."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    AZURE_OPENAI = "azure_openai"
    OLLAMA = "ollama"
    CUSTOM = "custom"
    LLMSIM = "llmsim"


@command(group, "list")
def list_models(
    remote: Remote,
    provider: Annotated[
        str | None, typer.Option(help="All models of one provider (id or name), disabled ones too.")
    ] = None,
) -> None:
    """List the usable models."""
    with remote.client() as client:
        of = provider_id(client, provider) if provider else None
        show_list(client.models.list(provider_id=of), remote.output, _MODELS)


@command(group, "providers")
def providers(remote: Remote) -> None:
    """List the providers."""
    with remote.client() as client:
        show_list(client.providers.list(), remote.output, _PROVIDERS)


@command(group, "add")
def add(
    remote: Remote,
    provider: ProviderArgument,
    name: Annotated[str, typer.Argument(help="The provider's name for the model.")],
    title: Annotated[str | None, typer.Option(help="Shown to people; else the name.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="chat, vision, tools …; can be repeated.")] = None,
    context_window: Annotated[int | None, typer.Option(min=1, help="In tokens.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default of the yard.")] = False,
) -> None:
    """Add a model to a provider."""
    with remote.client() as client:
        added = client.models.create(
            provider_id(client, provider),
            name,
            title,
            capabilities=label or (),
            context_window=context_window,
            is_default=default,
        )
    show(added, remote.output)


@command(group, "add-provider")
def add_provider(
    remote: Remote,
    name: Annotated[str, typer.Argument(help="Shown to people.")],
    type_: Annotated[ProviderType, typer.Option("--type", help="The protocol it speaks.")],
    base_url: Annotated[str | None, typer.Option(help="Where it is; else the vendor's own address.")] = None,
    api_key_file: Annotated[
        pathlib.Path | None, typer.Option(allow_dash=True, help="File that holds its key; - reads stdin.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default provider.")] = False,
) -> None:
    """Add a provider. Its key is read from a file: a command line can be seen by every user of the machine."""
    key = None
    if api_key_file is not None:
        key = (sys.stdin.read() if str(api_key_file) == "-" else api_key_file.read_text(encoding="utf-8")).strip()
    with remote.client() as client:
        added = client.providers.create(name, type_.value, base_url=base_url, api_key=key, is_default=default)
    show(added, remote.output)


@command(group, "default")
def default(remote: Remote, model: ModelArgument) -> None:
    """Make a model the default of the yard."""
    with remote.client() as client:
        show(client.models.update(model_id(client, model) or "", is_default=True), remote.output)


@command(group, "remove")
def remove(remote: Remote, model: ModelArgument) -> None:
    """Remove a model; agents and sessions that name it fall back to the defaults."""
    with remote.client() as client:
        found = client.models.get(model_id(client, model) or "")
        client.models.delete(found.id)
    show(found, remote.output)


@command(group, "remove-provider")
def remove_provider(remote: Remote, provider: ProviderArgument) -> None:
    """Remove a provider with its models."""
    with remote.client() as client:
        found = client.providers.get(provider_id(client, provider))
        client.providers.delete(found.id)
    show(found, remote.output)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="model")
