"""Rules of providers and models that no annotation can say."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

from codeyard.models.v1 import model_service_pb2, provider_service_pb2

from codeyard_server.core.ids import new_id


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderDraft:
    """A provider that is about to be stored; its key is sealed."""

    id: uuid.UUID
    name: str
    provider_type: str
    base_url: str | None
    is_default: bool
    now: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class ModelDraft:
    """A model that is about to be stored."""

    id: uuid.UUID
    provider_id: uuid.UUID
    model_id: str
    display_name: str
    capabilities: list[str]
    context_window: int | None
    is_default: bool
    now: datetime.datetime


def present(request: Any, name: str) -> Any:
    """Return an optional scalar of a request, or None when it is absent."""
    return getattr(request, name) if request.HasField(name) else None


def draft_provider(request: provider_service_pb2.CreateProviderRequest, now: datetime.datetime) -> ProviderDraft:
    """Return the provider a request asks for."""
    return ProviderDraft(
        id=new_id(),
        name=request.name,
        provider_type=request.provider_type,
        base_url=present(request, "base_url"),
        is_default=request.is_default,
        now=now,
    )


def draft_model(request: model_service_pb2.CreateModelRequest, now: datetime.datetime) -> ModelDraft:
    """Return the model a request asks for."""
    return ModelDraft(
        id=new_id(),
        provider_id=uuid.UUID(request.provider_id),
        model_id=request.model_id,
        display_name=request.display_name,
        capabilities=list(request.capabilities),
        context_window=present(request, "context_window"),
        is_default=request.is_default,
        now=now,
    )
