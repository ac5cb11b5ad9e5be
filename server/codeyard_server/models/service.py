"""RPCs of providers and models."""

from __future__ import annotations

import uuid

from codeyard.models.v1 import model_pb2, provider_pb2
from codeyard.models.v1 import model_service_pb2 as model_api
from codeyard.models.v1 import provider_service_pb2 as provider_api
from google.protobuf.empty_pb2 import Empty

from codeyard_server.core.call import Call
from codeyard_server.core.clock import Clock, utc_now
from codeyard_server.core.database import Database
from codeyard_server.core.lists import envelope, optional_strings
from codeyard_server.core.paging import DEFAULT_LIMIT
from codeyard_server.core.permission import Permission
from codeyard_server.core.scope import Scope
from codeyard_server.models import logic, store
from codeyard_server.models.keys import ProviderKeys


class ProviderService:
    """Model providers."""

    def __init__(self, database: Database, keys: ProviderKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def create_provider(self, request: provider_api.CreateProviderRequest, call: Call) -> provider_pb2.Provider:
        scope = call.require(Permission.MODEL_WRITE)
        draft = logic.draft_provider(request, self._clock())
        sealed = self._keys.seal(draft.id, logic.present(request, "api_key"))
        async with self._database.transaction() as tx:
            answer = self._provider(await store.insert_provider(tx, scope, draft, sealed))
            await call.remember(tx, answer)
        return answer

    async def list_providers(
        self, request: provider_api.ListProvidersRequest, call: Call
    ) -> provider_api.ListProvidersResponse:
        scope = call.require(Permission.MODEL_READ)
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        async with self._database.connection() as tx:
            rows = await store.list_providers(tx, scope, limit=limit, offset=request.offset)
            total = await store.count_providers(tx, scope)
        response: provider_api.ListProvidersResponse = envelope(
            call, provider_api.ListProvidersResponse(items=[self._provider(row) for row in rows], total=total)
        )
        return response

    async def get_provider(self, request: provider_api.GetProviderRequest, call: Call) -> provider_pb2.Provider:
        scope = call.require(Permission.MODEL_READ)
        async with self._database.connection() as tx:
            return self._provider(await store.get_provider(tx, scope, uuid.UUID(request.id)))

    async def update_provider(self, request: provider_api.UpdateProviderRequest, call: Call) -> provider_pb2.Provider:
        scope = call.require(Permission.MODEL_WRITE)
        provider_id = uuid.UUID(request.id)
        changes = [
            logic.present(request, "name"),
            logic.present(request, "provider_type"),
            logic.present(request, "base_url"),
            self._keys.seal(provider_id, logic.present(request, "api_key")),
            logic.present(request, "is_default"),
            logic.present(request, "status"),
        ]
        async with self._database.transaction() as tx:
            return self._provider(await store.update_provider(tx, scope, provider_id, changes, self._clock()))

    async def delete_provider(self, request: provider_api.DeleteProviderRequest, call: Call) -> Empty:
        scope = call.require(Permission.MODEL_WRITE)
        async with self._database.transaction() as tx:
            await store.delete_provider(tx, scope, uuid.UUID(request.id))
        return Empty()

    def _provider(self, row: store.Row) -> provider_pb2.Provider:
        return store.provider(row, self._keys.has_default(row["provider_type"]))


class ModelService:
    """Models of the providers."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create_model(self, request: model_api.CreateModelRequest, call: Call) -> model_pb2.Model:
        scope = call.require(Permission.MODEL_WRITE)
        draft = logic.draft_model(request, self._clock())
        async with self._database.transaction() as tx:
            answer = await store.insert_model(tx, scope, draft)
            await call.remember(tx, answer)
        return answer

    async def list_provider_models(
        self, request: model_api.ListProviderModelsRequest, call: Call
    ) -> model_api.ListProviderModelsResponse:
        scope = call.require(Permission.MODEL_READ)
        provider_id = uuid.UUID(request.provider_id)
        async with self._database.connection() as tx:
            await store.get_provider(tx, scope, provider_id)
            items = await store.list_provider_models(tx, scope, provider_id)
        return model_api.ListProviderModelsResponse(items=items)

    async def list_models(self, request: model_api.ListModelsRequest, call: Call) -> model_api.ListModelsResponse:
        scope = call.require(Permission.MODEL_READ)
        async with self._database.connection() as tx:
            return model_api.ListModelsResponse(items=await store.list_models(tx, scope))

    async def get_model(self, request: model_api.GetModelRequest, call: Call) -> model_pb2.Model:
        scope = call.require(Permission.MODEL_READ)
        async with self._database.connection() as tx:
            return await store.get_model(tx, scope, uuid.UUID(request.id))

    async def update_model(self, request: model_api.UpdateModelRequest, call: Call) -> model_pb2.Model:
        scope = call.require(Permission.MODEL_WRITE)
        changes = [
            logic.present(request, "model_id"),
            logic.present(request, "display_name"),
            optional_strings(request, "capabilities"),
            logic.present(request, "context_window"),
            logic.present(request, "is_default"),
            logic.present(request, "status"),
        ]
        async with self._database.transaction() as tx:
            return await store.update_model(tx, scope, uuid.UUID(request.id), changes, self._clock())

    async def delete_model(self, request: model_api.DeleteModelRequest, call: Call) -> Empty:
        scope = call.require(Permission.MODEL_WRITE)
        async with self._database.transaction() as tx:
            await store.delete_model(tx, scope, uuid.UUID(request.id))
        return Empty()


async def seed_simulator(database: Database) -> None:
    """Give an installation without any provider the simulator and make its model the default."""
    scope = Scope.system("models.seed")
    async with database.transaction() as tx:
        await store.lock_seeding(tx)
        if await store.any_provider(tx, scope):
            return
        request = provider_api.CreateProviderRequest(name="Simulator", provider_type="llmsim", is_default=True)
        draft = logic.draft_provider(request, utc_now())
        await store.insert_provider(tx, scope, draft, None)
        modes = {
            "llmsim": "Simulator",
            "llmsim-echo": "Simulator (echo)",
            "llmsim-tools": "Simulator (calls every tool)",
            "llmsim-slow": "Simulator (slow)",
            "llmsim-error": "Simulator (fails)",
            "llmsim-empty": "Simulator (empty reply)",
        }
        for name, display_name in modes.items():
            await store.insert_model(
                tx,
                scope,
                logic.draft_model(
                    model_api.CreateModelRequest(
                        provider_id=str(draft.id),
                        model_id=name,
                        display_name=display_name,
                        capabilities=["chat", "tools"],
                        is_default=name == "llmsim",
                    ),
                    utc_now(),
                ),
            )
