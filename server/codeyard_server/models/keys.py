"""Keys of providers: sealed in the vault, or the installation's defaults from the environment."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from codeyard_server.vault import Vault


class ProviderKeys:
    """Seals and opens provider keys, and knows the default ones."""

    def __init__(self, vault: Vault, defaults: Mapping[str, str]) -> None:
        self._vault = vault
        self._defaults = dict(defaults)

    def has_default(self, provider_type: str) -> bool:
        """Whether the installation has a default key for the type."""
        return provider_type in self._defaults

    def seal(self, provider_id: uuid.UUID, key: str | None) -> bytes | None:
        """Return the key as it is stored; None stays None.

        Raises:
            VaultNotConfigured: there is no master key.
        """
        return None if key is None else self._vault.seal(key.encode(), aad=_place(provider_id))

    def open(self, provider_id: uuid.UUID, provider_type: str, sealed: bytes | None) -> str | None:
        """Return the stored key, else the default of the type, else None.

        Raises:
            SealedValueInvalid: the stored value cannot be opened.
        """
        if sealed is None:
            return self._defaults.get(provider_type)
        return self._vault.open(sealed, aad=_place(provider_id)).decode()


def _place(provider_id: uuid.UUID) -> bytes:
    return f"llm_providers/{provider_id}/api_key".encode()
