"""Envelope encryption: AES-256-GCM with a fresh data key per value, wrapped by a master key that is named in the value.

The additional authenticated data says where a value belongs (``table/row/column``), so that one cannot be put in the
place of another. New values use the first master key; a value is opened by the key it names, so keys can be rotated
while the server runs.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from codeyard_server.core import errors

_NONCE = 12
_VERSION = 1
_ALGORITHM = "AES-256-GCM"


class SealedValueInvalid(Exception):
    """The value was altered, moved, or sealed with a master key that is not configured."""


@dataclasses.dataclass(frozen=True, slots=True)
class MasterKey:
    """A key of 32 bytes with its name."""

    key_id: str
    key: bytes = dataclasses.field(repr=False)


class Vault:
    """Seals and opens values."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self._keys = {key.key_id: key for key in keys}
        self._current = keys[0] if keys else None

    @property
    def configured(self) -> bool:
        """Whether there is a master key to seal with."""
        return self._current is not None

    def seal(self, plaintext: bytes, *, aad: bytes) -> bytes:
        """Return the value sealed for the place that aad names.

        Raises:
            VaultNotConfigured: there is no master key.
        """
        if self._current is None:
            raise errors.VaultNotConfigured("No master key is configured: set SECRETS_ENCRYPTION_KEY to store secrets")
        data_key = secrets.token_bytes(32)
        wrap_nonce, nonce = secrets.token_bytes(_NONCE), secrets.token_bytes(_NONCE)
        wrapped = AESGCM(self._current.key).encrypt(wrap_nonce, data_key, aad)
        payload = {
            "version": _VERSION,
            "alg": _ALGORITHM,
            "key_id": self._current.key_id,
            "dek_wrapped": base64.b64encode(wrap_nonce + wrapped).decode(),
            "nonce": base64.b64encode(nonce).decode(),
            "ciphertext": base64.b64encode(AESGCM(data_key).encrypt(nonce, plaintext, aad)).decode(),
        }
        return json.dumps(payload, separators=(",", ":")).encode()

    def open(self, sealed: bytes, *, aad: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            SealedValueInvalid: the value was altered, or belongs to another place, or its master key is missing.
        """
        try:
            payload = json.loads(sealed)
            master = self._keys[payload["key_id"]]
            wrapped = base64.b64decode(payload["dek_wrapped"], validate=True)
            data_key = AESGCM(master.key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], aad)
            nonce = base64.b64decode(payload["nonce"], validate=True)
            return AESGCM(data_key).decrypt(nonce, base64.b64decode(payload["ciphertext"], validate=True), aad)
        except KeyError as error:
            raise SealedValueInvalid(f"no master key for the value, or it is incomplete: {error}") from error
        except (InvalidTag, ValueError, TypeError) as error:
            raise SealedValueInvalid("the value was altered or belongs to another place") from error
