"""Accounts: users and their credentials. For now API keys and the local administrator.

Other domains may call: :class:`ApiKeyAuthenticator`, :class:`AnonymousAuthenticator`, :func:`ensure_administrator`.
"""

from codeyard_server.accounts.logic import hash_key, new_key
from codeyard_server.accounts.service import AnonymousAuthenticator, ApiKeyAuthenticator, ensure_administrator

__all__ = ["AnonymousAuthenticator", "ApiKeyAuthenticator", "ensure_administrator", "hash_key", "new_key"]
