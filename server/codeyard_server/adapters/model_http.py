"""What the drivers of real vendors share below their SDKs: the vendor's address, the key and the HTTP client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import httpx2

from codeyard_server.models.ports import ModelError, ProviderConfig

AZURE_API_VERSION = "2024-10-21"
"""The newest dated version of Azure's inference API that is generally available; ``/openai/v1`` has no version."""

_DEFAULT_OPENAI_URLS = {"openai": "https://api.openai.com/v1", "ollama": "http://127.0.0.1:11434/v1"}
_DEFAULT_ANTHROPIC_URL = "https://api.anthropic.com"
_CONNECT_SECONDS = 10.0
_MAX_PORT = 65535


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the paths of a vendor's API begin."""

    url: str
    """Without a final slash, a query or credentials."""
    query: Mapping[str, str]
    """Sent with every request."""
    deployments: bool = False
    """Whether it is Azure's dated API, where the model is part of the path and the query holds ``api-version``."""


def openai_endpoint(provider_type: str, base_url: str | None) -> Endpoint:
    """Return where ``/chat/completions`` is appended for the types openai, ollama and custom.

    A URL without a path gets ``/v1``; the final ``/chat/completions`` of a full address is taken off.

    Raises:
        ModelError: there is no URL and the type has no default, or it is not an HTTP address.
    """
    if not base_url:
        if provider_type not in _DEFAULT_OPENAI_URLS:
            raise ModelError(f"A provider of the type {provider_type} needs a base URL", retryable=False)
        return Endpoint(_DEFAULT_OPENAI_URLS[provider_type], {})
    url, path = _parsed(base_url)
    return _endpoint(url, path.removesuffix("/chat/completions") or "/v1")


def azure_endpoint(base_url: str | None) -> Endpoint:
    """Return where Azure's ``/deployments/…`` or, if it ends with ``/openai/v1``, ``/chat/completions`` is appended.

    The resource's address, ``…/openai``, ``…/openai/deployments/<name>`` (which fixes the deployment) and the full
    target address are all accepted; an ``api-version`` in the query counts, else :data:`AZURE_API_VERSION`.

    Raises:
        ModelError: there is no URL, or it is not an HTTP address.
    """
    if not base_url:
        raise ModelError("An Azure provider needs the address of its resource as base URL", retryable=False)
    url, path = _parsed(base_url)
    path = path.removesuffix("/chat/completions")
    if path == "/v1":
        path = "/openai/v1"
    elif not path.endswith(("/openai", "/openai/v1")) and "/openai/deployments/" not in path:
        path += "/openai"
    endpoint = _endpoint(url, path)
    if path.endswith("/openai/v1"):
        return endpoint
    return Endpoint(endpoint.url, {"api-version": AZURE_API_VERSION, **endpoint.query}, deployments=True)


def anthropic_endpoint(base_url: str | None) -> Endpoint:
    """Return where ``/v1/messages`` is appended; the URL may already end with it, or with ``/v1``.

    Raises:
        ModelError: it is not an HTTP address.
    """
    if not base_url:
        return Endpoint(_DEFAULT_ANTHROPIC_URL, {})
    url, path = _parsed(base_url)
    return _endpoint(url, path.removesuffix("/messages").removesuffix("/v1"))


def is_anthropic(endpoint: Endpoint) -> bool:
    """Whether the endpoint is the vendor's own and not a server that speaks its protocol."""
    return endpoint.url == _DEFAULT_ANTHROPIC_URL


def usable_key(config: ProviderConfig, *, required: bool) -> str:
    """Return the key without surrounding white space; empty when there is none and none is required.

    Raises:
        ModelError: it is missing, or cannot be a header's value (which the HTTP library would quote in its error).
    """
    key = (config.api_key or "").strip()
    if required and not key:
        raise ModelError(f"The provider of the type {config.provider_type} has no API key", retryable=False)
    if not key.isascii() or not key.isprintable():
        raise ModelError("The provider's API key holds characters that no key has", retryable=False)
    return key


def http_client(config: ProviderConfig, transport: httpx2.AsyncBaseTransport | None) -> httpx2.AsyncClient:
    """Return the client for one provider. It follows no redirect: the key would follow it to wherever it leads.

    Args:
        config: of the provider.
        transport: dials in place of the default one; then the proxies of the environment are not used either.
    """
    return httpx2.AsyncClient(
        transport=transport,
        trust_env=transport is None,
        follow_redirects=False,
        timeout=httpx2.Timeout(config.timeout_seconds, connect=min(config.timeout_seconds, _CONNECT_SECONDS)),
    )


def _parsed(base_url: str) -> tuple[httpx2.URL, str]:
    """Return the URL, and its path as sent without a final slash."""
    try:
        url = httpx2.URL(base_url.strip())
    except httpx2.InvalidURL as error:
        raise ModelError("The provider's base URL is not a URL", retryable=False) from error
    if url.scheme not in ("http", "https") or not url.host or (url.port or 1) > _MAX_PORT:
        raise ModelError("The provider's base URL is not an http or https address", retryable=False)
    if url.userinfo:
        raise ModelError("The provider's base URL holds credentials; the key has a field of its own", retryable=False)
    return url, url.raw_path.partition(b"?")[0].decode("ascii").rstrip("/")


def _endpoint(url: httpx2.URL, path: str) -> Endpoint:
    bare = url.copy_with(raw_path=path.encode("ascii"), fragment=None)
    return Endpoint(str(bare).rstrip("/"), dict(url.params))
