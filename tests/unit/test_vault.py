"""Envelope encryption."""

from __future__ import annotations

import json
import secrets

import pytest
from codeyard_server.core import errors
from codeyard_server.vault import MasterKey, SealedValueInvalid, Vault

OLD = MasterKey("old", secrets.token_bytes(32))
NEW = MasterKey("new", secrets.token_bytes(32))
PLACE = b"llm_providers/1/api_key"


def test_sealed_value_opens_only_in_its_own_place() -> None:
    """A value moved to another row cannot be opened there."""
    vault = Vault([NEW])
    sealed = vault.seal(b"secret", aad=PLACE)
    assert b"secret" not in sealed
    assert vault.open(sealed, aad=PLACE) == b"secret"
    with pytest.raises(SealedValueInvalid):
        vault.open(sealed, aad=b"llm_providers/2/api_key")


@pytest.mark.parametrize("member", ["dek_wrapped", "nonce", "ciphertext"])
def test_altered_value_is_refused(member: str) -> None:
    """Any changed part is noticed."""
    vault = Vault([NEW])
    payload = json.loads(vault.seal(b"secret", aad=PLACE))
    text = payload[member]
    payload[member] = ("B" if text[0] == "A" else "A") + text[1:]
    with pytest.raises(SealedValueInvalid):
        vault.open(json.dumps(payload).encode(), aad=PLACE)


@pytest.mark.parametrize("sealed", [b"", b"{}", b"null", b"\xff", b'{"key_id": "new"}', b'{"key_id": ["new"]}'])
def test_what_is_no_sealed_value_is_refused(sealed: bytes) -> None:
    """Garbage is a typed error, never another exception."""
    with pytest.raises(SealedValueInvalid):
        Vault([NEW]).open(sealed, aad=PLACE)


def test_value_of_the_previous_key_opens_while_it_is_configured() -> None:
    """A value names its master key; new ones use the first."""
    sealed = Vault([OLD]).seal(b"secret", aad=PLACE)
    assert Vault([NEW, OLD]).open(sealed, aad=PLACE) == b"secret"
    assert json.loads(Vault([NEW, OLD]).seal(b"x", aad=PLACE))["key_id"] == "new"
    with pytest.raises(SealedValueInvalid):
        Vault([NEW]).open(sealed, aad=PLACE)


def test_sealing_without_a_master_key_is_the_callers_error() -> None:
    """Nothing is stored in clear because a setting is missing."""
    with pytest.raises(errors.VaultNotConfigured):
        Vault([]).seal(b"secret", aad=PLACE)


def test_master_keys_do_not_show_in_a_representation() -> None:
    """A key that is printed by accident shows its name only."""
    assert str(NEW.key) not in repr(NEW) and "new" in repr(NEW)
