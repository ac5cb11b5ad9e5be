"""What the shell offers after a Tab: ids with their names, asked from the yard; nothing where it does not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from codeyard_cli.remote import Remote

if TYPE_CHECKING:
    from codeyard_client import Client

Offer = list[tuple[str, str]]

_LIMIT = 50


def _ask(context: typer.Context, ask: Callable[[Client], Iterable[tuple[str, str]]]) -> Offer:
    options = {**(context.parent.params if context.parent else {}), **context.params}
    try:
        with Remote(options.get("url"), options.get("token")).client() as client:
            return [pair for pair, _ in zip(ask(client), range(_LIMIT), strict=False)]
    except Exception:  # noqa: BLE001 - in the middle of a line there is no place for an error
        return []


def agents(context: typer.Context) -> Offer:
    """Offer agents."""
    return _ask(context, lambda client: ((agent.id, agent.name) for agent in client.agents.list(page_size=_LIMIT)))


def models(context: typer.Context) -> Offer:
    """Offer usable models."""
    return _ask(context, lambda client: ((model.model_id, model.display_name) for model in client.models.list()))


def capabilities(context: typer.Context) -> Offer:
    """Offer the catalogue."""
    return _ask(context, lambda client: ((item.id, item.name) for item in client.capabilities.list()))
