"""Rules of credentials."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping

from codeyard_server.core import errors

PREFIX = "cyk_"
_KEY = re.compile(r"cyk_[0-9a-f]{64}")


def new_key() -> str:
    """Return a new API key: the prefix and 32 random bytes in hex."""
    return PREFIX + secrets.token_hex(32)


def hash_key(key: str) -> bytes:
    """Return the SHA-256 under which a key is stored and looked up."""
    return hashlib.sha256(key.encode()).digest()


def display_prefix(key: str) -> str:
    """Return what may be shown of a key: its first 8 digits."""
    return key[: len(PREFIX) + 8] + "..."


def presented_key(metadata: Mapping[str, str]) -> str:
    """Return the API key in the authorization header: ``Bearer <key>``, ``ApiKey <key>`` or the key alone.

    Raises:
        Unauthenticated: there is no header, or what it holds is no key. The text never quotes it.
    """
    header = metadata.get("authorization", "")
    if not header:
        raise errors.Unauthenticated("A credential is required", headers={"www-authenticate": "Bearer"})
    scheme, space, rest = header.partition(" ")
    key = rest.strip() if space and scheme.lower() in ("bearer", "apikey") else header.strip()
    if not _KEY.fullmatch(key):
        raise errors.Unauthenticated("The credential is not valid", headers={"www-authenticate": "Bearer"})
    return key
