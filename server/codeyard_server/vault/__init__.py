"""The vault: what is secret is sealed before it is stored.

Other domains may call: :class:`Vault` (``seal``, ``open``).
"""

from codeyard_server.vault.envelope import MasterKey, SealedValueInvalid, Vault

__all__ = ["MasterKey", "SealedValueInvalid", "Vault"]
