"""Model providers and their models."""

from __future__ import annotations

from collections.abc import Sequence

from codeyard_client._channel import AsyncStream
from codeyard_client._content import strings
from codeyard_client.aio.transport import AsyncTransport
from codeyard_client.gen.codeyard.models.v1 import (
    CreateModelRequest,
    CreateProviderRequest,
    DeleteModelRequest,
    DeleteProviderRequest,
    GetModelRequest,
    GetProviderRequest,
    ListModelsRequest,
    ListProviderModelsRequest,
    ListProvidersRequest,
    Model,
    Provider,
    UpdateModelRequest,
    UpdateProviderRequest,
)
from codeyard_client.gen.methods import ModelService, ProviderService


class AsyncModels:
    """The models of a yard. Changing them takes an administrator."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, provider_id: str | None = None) -> AsyncStream[Model]:
        """Yield the usable models, or all of one provider's in any status."""
        if provider_id is None:
            usable = await self._transport.call(ModelService.LIST_MODELS, ListModelsRequest())
            models = usable.items
        else:
            request = ListProviderModelsRequest(provider_id=provider_id)
            models = (await self._transport.call(ModelService.LIST_PROVIDER_MODELS, request)).items
        for model in models:
            yield model

    async def get(self, model_id: str) -> Model:
        """Return one model by its id (not the provider's name for it).

        Raises:
            NotFound: there is none.
        """
        return await self._transport.call(ModelService.GET_MODEL, GetModelRequest(id=model_id))

    async def create(
        self,
        provider_id: str,
        model_id: str,
        display_name: str | None = None,
        *,
        capabilities: Sequence[str] = (),
        context_window: int | None = None,
        is_default: bool = False,
        idempotency_key: str | None = None,
    ) -> Model:
        """Add a model to a provider; ``model_id`` is the provider's name for it. ``context_window`` is in tokens.

        Raises:
            ModelExists: the provider has it already.
        """
        request = CreateModelRequest(
            provider_id=provider_id,
            model_id=model_id,
            display_name=display_name or model_id,
            capabilities=list(capabilities),
            context_window=context_window,
            is_default=is_default,
        )
        return await self._transport.call(ModelService.CREATE_MODEL, request, idempotency_key=idempotency_key)

    async def update(
        self,
        id: str,  # noqa: A002 - the model's, next to the provider's name for it
        *,
        model_id: str | None = None,
        display_name: str | None = None,
        capabilities: Sequence[str] | None = None,
        context_window: int | None = None,
        is_default: bool | None = None,
        status: str | None = None,
    ) -> Model:
        """Change what is given. ``status`` is ``active`` or ``disabled``; ``is_default`` moves the default here."""
        request = UpdateModelRequest(
            id=id,
            model_id=model_id,
            display_name=display_name,
            capabilities=strings(capabilities),
            context_window=context_window,
            is_default=is_default,
            status=status,
        )
        return await self._transport.call(ModelService.UPDATE_MODEL, request)

    async def delete(self, model_id: str) -> None:
        """Delete a model by its id; agents and sessions that name it fall back to the defaults."""
        await self._transport.call(ModelService.DELETE_MODEL, DeleteModelRequest(id=model_id))


class AsyncProviders:
    """The model providers of a yard. Changing them takes an administrator."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, page_size: int = 100) -> AsyncStream[Provider]:
        """Yield the providers, newest first."""
        offset = 0
        while True:
            request = ListProvidersRequest(limit=page_size, offset=offset)
            page = await self._transport.call(ProviderService.LIST_PROVIDERS, request)
            for provider in page.items:
                yield provider
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    async def get(self, provider_id: str) -> Provider:
        """Return one provider.

        Raises:
            NotFound: there is none.
        """
        return await self._transport.call(ProviderService.GET_PROVIDER, GetProviderRequest(id=provider_id))

    async def create(
        self,
        name: str,
        provider_type: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        is_default: bool = False,
        idempotency_key: str | None = None,
    ) -> Provider:
        """Add a provider.

        ``provider_type`` is ``openai``, ``anthropic``, ``azure_openai``, ``ollama``, ``custom`` or ``llmsim``. The key
        is stored encrypted and never returned.
        """
        request = CreateProviderRequest(
            name=name, provider_type=provider_type, base_url=base_url, api_key=api_key, is_default=is_default
        )
        return await self._transport.call(ProviderService.CREATE_PROVIDER, request, idempotency_key=idempotency_key)

    async def update(
        self,
        provider_id: str,
        *,
        name: str | None = None,
        provider_type: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        is_default: bool | None = None,
        status: str | None = None,
    ) -> Provider:
        """Change what is given. ``status`` is ``active`` or ``disabled``; a new key replaces the old one."""
        request = UpdateProviderRequest(
            id=provider_id,
            name=name,
            provider_type=provider_type,
            base_url=base_url,
            api_key=api_key,
            is_default=is_default,
            status=status,
        )
        return await self._transport.call(ProviderService.UPDATE_PROVIDER, request)

    async def delete(self, provider_id: str) -> None:
        """Delete a provider and its models."""
        await self._transport.call(ProviderService.DELETE_PROVIDER, DeleteProviderRequest(id=provider_id))
