"""Where the drivers find a provider by what an administrator entered, and what they make of failed answers."""

from __future__ import annotations

import datetime
from typing import Any

import httpx2
import pytest
from codeyard_server.adapters.model_errors import model_error, retry_after_seconds
from codeyard_server.adapters.model_http import Endpoint, anthropic_endpoint, azure_endpoint, openai_endpoint
from codeyard_server.models.ports import ModelError

pytestmark = pytest.mark.quick

NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("provider_type", "base_url", "expected"),
    [
        ("openai", None, "https://api.openai.com/v1"),
        ("openai", "", "https://api.openai.com/v1"),
        ("ollama", None, "http://127.0.0.1:11434/v1"),
        ("custom", "http://models.lan:8000", "http://models.lan:8000/v1"),
        ("custom", "http://models.lan:8000/", "http://models.lan:8000/v1"),
        ("custom", " http://models.lan:8000/v1/ ", "http://models.lan:8000/v1"),
        ("custom", "http://models.lan/v1/chat/completions", "http://models.lan/v1"),
        ("custom", "http://models.lan/v1/chat/completions/", "http://models.lan/v1"),
        ("custom", "https://models.example/api/v1", "https://models.example/api/v1"),
        ("custom", "https://models.example/v1beta/openai", "https://models.example/v1beta/openai"),
        ("custom", "http://[::1]:8080", "http://[::1]:8080/v1"),
        ("custom", "https://models.example/a%20b#fragment", "https://models.example/a%20b"),
        ("openai", "HTTPS://API.OpenAI.com", "https://api.openai.com/v1"),
    ],
)
def test_openai_endpoint_accepts_every_usual_form(provider_type: str, base_url: str | None, expected: str) -> None:
    """Nothing, the bare host, the API's root, and the full address all lead to the same place."""
    assert openai_endpoint(provider_type, base_url) == Endpoint(expected, {})


def test_openai_endpoint_keeps_the_query() -> None:
    """Some gateways want a parameter with every request."""
    assert openai_endpoint("custom", "https://models.example/v1?team=a%26b") == Endpoint(
        "https://models.example/v1", {"team": "a&b"}
    )


@pytest.mark.parametrize(
    ("base_url", "url", "query"),
    [
        ("https://n.openai.azure.com", "https://n.openai.azure.com/openai", {"api-version": "2024-10-21"}),
        ("https://n.openai.azure.com/openai/", "https://n.openai.azure.com/openai", {"api-version": "2024-10-21"}),
        (
            "https://n.openai.azure.com/?api-version=2025-01-01",
            "https://n.openai.azure.com/openai",
            {"api-version": "2025-01-01"},
        ),
        (
            "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2025-01-01",
            "https://n.openai.azure.com/openai/deployments/d",
            {"api-version": "2025-01-01"},
        ),
        (
            "https://gateway.example/azure",
            "https://gateway.example/azure/openai",
            {"api-version": "2024-10-21"},
        ),
    ],
)
def test_azure_endpoint_accepts_every_form_of_the_dated_api(base_url: str, url: str, query: dict[str, str]) -> None:
    """The version of the address counts, else the newest that is generally available."""
    assert azure_endpoint(base_url) == Endpoint(url, query, deployments=True)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://n.openai.azure.com/openai/v1",
        "https://n.openai.azure.com/openai/v1/",
        "https://n.openai.azure.com/openai/v1/chat/completions",
        "https://n.openai.azure.com/v1",
    ],
)
def test_azure_endpoint_has_no_version_when_it_is_the_undated_api(base_url: str) -> None:
    """The surface below /openai/v1 takes the model in the body and no version."""
    assert azure_endpoint(base_url) == Endpoint("https://n.openai.azure.com/openai/v1", {})


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        (None, "https://api.anthropic.com"),
        ("https://api.anthropic.com/", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com"),
        ("https://models.example/v1/messages", "https://models.example"),
        ("https://models.example/anthropic", "https://models.example/anthropic"),
        ("https://models.example/anthropic/v1/", "https://models.example/anthropic"),
    ],
)
def test_anthropic_endpoint_accepts_every_usual_form(base_url: str | None, expected: str) -> None:
    """Nothing, the bare host, the API's root, and the full address all lead to the same place."""
    assert anthropic_endpoint(base_url) == Endpoint(expected, {})


@pytest.mark.parametrize("endpoint", [anthropic_endpoint, azure_endpoint, lambda url: openai_endpoint("custom", url)])
@pytest.mark.parametrize(
    "base_url",
    [
        "models.lan:8000",
        "file:///etc/passwd",
        "http://",
        "https://user:secret@models.example",
        "http://models.example:99999",
        "http://models.example/\x00",
        "not a url",
    ],
)
def test_an_endpoint_is_refused_when_the_url_is_no_http_address(endpoint: Any, base_url: str) -> None:
    """The text tells what is wrong and repeats no credential."""
    with pytest.raises(ModelError, match="base URL") as caught:
        endpoint(base_url)
    assert not caught.value.retryable
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("provider_type", ["custom", "azure_openai"])
def test_an_endpoint_is_refused_when_a_type_without_a_default_has_none(provider_type: str) -> None:
    """Only the vendors' own types know where to go."""
    with pytest.raises(ModelError, match="base URL"):
        azure_endpoint(None) if provider_type == "azure_openai" else openai_endpoint(provider_type, None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_reads_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds and dates are understood, nonsense is no wish."""
    assert retry_after_seconds(httpx2.Headers(headers), NOW) == seconds


class _StatusError(Exception):
    """What both SDKs raise for an answer: the response, and its body as far as it was JSON."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        super().__init__("status error")
        self.response = httpx2.Response(status, headers=headers)
        self.body = body


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(code, code in (408, 409, 429)) for code in (400, 401, 402, 403, 404, 408, 409, 413, 422, 429)]
    + [(code, True) for code in (500, 502, 503, 504, 529)],
)
def test_model_error_is_retryable_by_status(status: int, retryable: bool) -> None:
    """Timeouts, conflicts, limits and the server's own failures pass; the rest repeats."""
    assert model_error(_StatusError(status, None), vendor="V", secret="").retryable is retryable


def test_model_error_follows_the_server_when_it_says_whether_to_retry() -> None:
    """Both vendors overrule the status by a header."""
    never = model_error(_StatusError(500, None, {"x-should-retry": "false"}), vendor="V", secret="")
    again = model_error(_StatusError(400, None, {"x-should-retry": "true"}), vendor="V", secret="")
    assert (never.retryable, again.retryable) == (False, True)


def test_model_error_is_final_when_the_quota_is_used_up() -> None:
    """A rate limit passes, an empty account does not, although both are 429."""
    body = {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    assert not model_error(_StatusError(429, body), vendor="V", secret="").retryable


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"message": "Because"}, "Because"),
        ({"error": {"message": "Because"}}, "Because"),
        ({"error": "Because"}, "Because"),
        ({"detail": "Because"}, "Because"),
        ({"error": {"code": "why"}}, "why"),
        ("Because", "Because"),
        (None, "no explanation"),
        ({}, "no explanation"),
        ([1], "[1]"),
        ("two\n\tlines", "two lines"),
        ("x" * 600, "x" * 500 + "…"),
    ],
)
def test_model_error_quotes_the_explanation(body: object, text: str) -> None:
    """Whatever form the body has, its text is found, on one line and not endless."""
    assert str(model_error(_StatusError(400, body), vendor="V", secret="")) == f"V answered 400: {text}"


def test_model_error_blots_out_the_secret_before_it_cuts() -> None:
    """A key at the end of a long text does not survive as its first half."""
    secret = "sk-0123456789abcdef"
    text = str(model_error(_StatusError(400, "x" * 495 + secret), vendor="V", secret=secret))
    assert "sk-" not in text
