"""Statements of providers and models."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
from codeyard.models.v1 import model_pb2, provider_pb2

from codeyard_server.core import errors
from codeyard_server.core.database import Transaction
from codeyard_server.core.queries import Queries
from codeyard_server.core.scope import Scope
from codeyard_server.models.logic import ModelDraft, ProviderDraft
from codeyard_server.models.profiles import profile_for

sql = Queries.beside(__file__)

Row = asyncpg.Record


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that can be used, with what its driver is made from."""

    id: uuid.UUID
    name: str
    provider_id: uuid.UUID
    provider_type: str
    base_url: str | None
    sealed_key: bytes | None = dataclasses.field(repr=False)
    provider_version: datetime.datetime
    """Changes whenever the provider does."""


def provider(row: asyncpg.Record, has_default_key: bool) -> provider_pb2.Provider:
    """Return a row as a provider; ``has_default_key`` says whether the installation has a key for its type."""
    return provider_pb2.Provider(
        id=str(row["id"]),
        name=row["name"],
        provider_type=row["provider_type"],
        base_url=row["base_url"],
        api_key_set=row["api_key"] is not None or has_default_key,
        is_default=row["is_default"],
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def model(row: asyncpg.Record) -> model_pb2.Model:
    """Return a row as a model, with its provider and profile where the row has the provider."""
    result = model_pb2.Model(
        id=str(row["id"]),
        provider_id=str(row["provider_id"]),
        model_id=row["model_id"],
        display_name=row["display_name"],
        capabilities=row["capabilities"],
        context_window=row["context_window"],
        is_default=row["is_default"],
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    if "provider_type" in row:
        result.provider_name = row["provider_name"]
        result.provider_type = row["provider_type"]
        profile = profile_for(row["provider_type"], row["model_id"])
        if profile is not None:
            result.profile.CopyFrom(profile)
    return result


async def insert_provider(
    tx: Transaction, scope: Scope, draft: ProviderDraft, sealed_key: bytes | None
) -> asyncpg.Record:
    """Store a provider; a default one takes the default from the others."""
    if draft.is_default:
        await _move_default(tx, "provider", draft.id)
    return await _one(
        tx,
        sql.insert_provider,
        draft.id,
        draft.name,
        draft.provider_type,
        draft.base_url,
        sealed_key,
        draft.is_default,
        draft.now,
    )


async def get_provider(tx: Transaction, scope: Scope, provider_id: uuid.UUID) -> asyncpg.Record:
    """Return a provider's row.

    Raises:
        NotFound: there is none.
    """
    return await _one(tx, sql.get_provider, provider_id, missing="Provider not found")


async def list_providers(tx: Transaction, scope: Scope, *, limit: int, offset: int) -> Sequence[asyncpg.Record]:
    """Return providers, newest first."""
    return await tx.fetch(sql.list_providers, limit, offset)


async def count_providers(tx: Transaction, scope: Scope) -> int:
    """Return how many providers there are."""
    return int(await tx.value(sql.count_providers))


async def update_provider(
    tx: Transaction, scope: Scope, provider_id: uuid.UUID, changes: Sequence[Any], now: datetime.datetime
) -> asyncpg.Record:
    """Change a provider: name, type, base URL, sealed key, is_default, status; None leaves a column as it is.

    Raises:
        NotFound: there is none.
    """
    if changes[4]:
        await _move_default(tx, "provider", provider_id)
    return await _one(tx, sql.update_provider, provider_id, *changes, now, missing="Provider not found")


async def delete_provider(tx: Transaction, scope: Scope, provider_id: uuid.UUID) -> None:
    """Delete a provider with its models.

    Raises:
        NotFound: there is none.
    """
    await _one(tx, sql.delete_provider, provider_id, missing="Provider not found")


async def insert_model(tx: Transaction, scope: Scope, draft: ModelDraft) -> model_pb2.Model:
    """Store a model; a default one takes the default from the others.

    Raises:
        NotFound: there is no such provider.
        ModelExists: the provider has one of this name.
    """
    if draft.is_default:
        await _move_default(tx, "model", draft.id)
    try:
        row = await _one(
            tx,
            sql.insert_model,
            draft.id,
            draft.provider_id,
            draft.model_id,
            draft.display_name,
            draft.capabilities,
            draft.context_window,
            draft.is_default,
            draft.now,
        )
    except asyncpg.UniqueViolationError as error:
        raise errors.ModelExists("The provider already has a model of this name") from error
    except asyncpg.ForeignKeyViolationError as error:
        raise errors.NotFound("Provider not found") from error
    return model(row)


async def get_model(tx: Transaction, scope: Scope, model_id: uuid.UUID) -> model_pb2.Model:
    """Return a model with its provider.

    Raises:
        NotFound: there is none.
    """
    return model(await _one(tx, sql.get_model, model_id, missing="Model not found"))


async def list_provider_models(tx: Transaction, scope: Scope, provider_id: uuid.UUID) -> list[model_pb2.Model]:
    """Return a provider's models by display name."""
    return [model(row) for row in await tx.fetch(sql.list_provider_models, provider_id)]


async def list_models(tx: Transaction, scope: Scope) -> list[model_pb2.Model]:
    """Return all models that can be used."""
    return [model(row) for row in await tx.fetch(sql.list_models)]


async def update_model(
    tx: Transaction, scope: Scope, model_id: uuid.UUID, changes: Sequence[Any], now: datetime.datetime
) -> model_pb2.Model:
    """Change a model: name, display name, labels, window, is_default, status; None leaves a column as it is.

    Raises:
        NotFound: there is none.
        ModelExists: the provider has another one of this name.
    """
    if changes[4]:
        await _move_default(tx, "model", model_id)
    try:
        return model(await _one(tx, sql.update_model, model_id, *changes, now, missing="Model not found"))
    except asyncpg.UniqueViolationError as error:
        raise errors.ModelExists("The provider already has a model of this name") from error


async def delete_model(tx: Transaction, scope: Scope, model_id: uuid.UUID) -> None:
    """Delete a model.

    Raises:
        NotFound: there is none.
    """
    await _one(tx, sql.delete_model, model_id, missing="Model not found")


async def require_model(tx: Transaction, scope: Scope, model_id: uuid.UUID | None) -> None:
    """Check that a model another domain refers to exists; None refers to none.

    Raises:
        ModelUnknown: it does not.
    """
    if model_id is not None and await tx.value(sql.model_exists, model_id) is None:
        raise errors.ModelUnknown("No model has this id")


async def resolve_model(tx: Transaction, scope: Scope, candidates: Sequence[uuid.UUID | None]) -> ResolvedModel | None:
    """Return the first candidate that can be used, else the installation's default, else None."""
    row = await tx.row(sql.resolve_model, [candidate for candidate in candidates if candidate])
    if row is None:
        return None
    return ResolvedModel(
        id=row["id"],
        name=row["model_id"],
        provider_id=row["provider_id"],
        provider_type=row["provider_type"],
        base_url=row["base_url"],
        sealed_key=row["api_key"],
        provider_version=row["updated_at"],
    )


async def any_provider(tx: Transaction, scope: Scope) -> bool:
    """Return whether there is a provider at all."""
    return bool(await tx.value(sql.any_provider))


async def lock_seeding(tx: Transaction) -> None:
    """Let one process at a time seed the installation."""
    await tx.execute(sql.lock_defaults, "models.seed")


async def _move_default(tx: Transaction, kind: str, keep: uuid.UUID) -> None:
    await tx.execute(sql.lock_defaults, f"models.default-{kind}")
    await tx.execute(sql.clear_default_provider if kind == "provider" else sql.clear_default_model, keep)


async def _one(tx: Transaction, query: str, *arguments: Any, missing: str = "") -> asyncpg.Record:
    row = await tx.row(query, *arguments)
    if row is None:
        raise errors.NotFound(missing)
    return row
