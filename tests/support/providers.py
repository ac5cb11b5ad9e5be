"""Providers and models that a test makes and removes."""

from __future__ import annotations

from typing import Any

from tests.support.client import Rest


async def new_provider(client: Rest, **members: Any) -> dict[str, Any]:
    """Create a provider; a simulator unless told otherwise."""
    body = {"name": "Test provider", "provider_type": "llmsim", **members}
    provider: dict[str, Any] = await client.ok("POST", "/v1/llm-providers", body)
    return provider


async def new_model(client: Rest, provider: dict[str, Any], name: str, **members: Any) -> dict[str, Any]:
    """Add a model to a provider."""
    body = {"model_id": name, "display_name": name, **members}
    model: dict[str, Any] = await client.ok("POST", f"/v1/llm-providers/{provider['id']}/models", body)
    return model


async def remove(client: Rest, provider: dict[str, Any]) -> None:
    """Delete a provider with its models."""
    await client.ok("DELETE", f"/v1/llm-providers/{provider['id']}")
