"""The table of model profiles and the catalogue of default models."""

from __future__ import annotations

import pytest
from codeyard_server.models.profiles import profile_for
from google.protobuf import json_format

pytestmark = pytest.mark.quick


def test_profile_for_returns_the_whole_profile() -> None:
    """Every column of the table has its place."""
    profile = profile_for("openai", "gpt-5.2")
    assert profile is not None
    assert json_format.MessageToDict(profile, preserving_proto_field_name=True) == {
        "name": "GPT-5.2",
        "family": "gpt-5.2",
        "release_date": "2025-12-11",
        "last_updated": "2025-12-11",
        "knowledge": "2025-08-31",
        "attachment": True,
        "reasoning": True,
        "tool_call": True,
        "structured_output": True,
        "cost": {"input": 1.75, "output": 14.0, "cache_read": 0.175},
        "limits": {"context": 128000, "output": 64000},
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "reasoning_effort": {
            "values": [
                {"value": "none", "name": "None"},
                {"value": "low", "name": "Low"},
                {"value": "medium", "name": "Medium"},
                {"value": "high", "name": "High"},
                {"value": "xhigh", "name": "Extra High"},
            ],
            "default": "none",
        },
    }


def test_profile_for_leaves_out_what_is_not_known() -> None:
    """A model without a price for cached input or a choice of efforts has neither field."""
    pro, sonnet = profile_for("openai", "o1-pro"), profile_for("anthropic", "claude-3-opus")
    assert pro is not None
    assert sonnet is not None
    assert not pro.cost.HasField("cache_read")
    assert not sonnet.HasField("reasoning_effort")


@pytest.mark.parametrize(
    ("provider_type", "model_id", "name"),
    [
        ("openai", "gpt-4o", "GPT-4o"),
        ("openai", "gpt-4o-2024-11-20", "GPT-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "GPT-4o mini"),
        ("openai", "gpt-5.1-codex-max", "GPT-5.1 Codex max"),
        ("openai", "gpt-5-mini-latest", "GPT-5 mini"),
        ("azure_openai", "o3-deep-research-2025", "o3 Deep Research"),
        ("anthropic", "claude-sonnet-4-20250514", "Claude Sonnet 4"),
        ("anthropic", "claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
        ("anthropic", "claude-3-5-haiku-latest", "Claude 3.5 Haiku"),
    ],
)
def test_profile_for_finds_the_longest_entry_that_the_name_continues(
    provider_type: str, model_id: str, name: str
) -> None:
    """Date suffixes and variants belong to the closest entry."""
    profile = profile_for(provider_type, model_id)
    assert profile is not None
    assert profile.name == name


@pytest.mark.parametrize(
    ("provider_type", "model_id"),
    [
        ("openai", "gpt-4omni"),
        ("openai", "gpt-5.20"),
        ("openai", "claude-3-opus"),
        ("openai", "gpt"),
        ("openai", ""),
        ("openai", "-"),
        ("anthropic", "gpt-4o"),
        ("anthropic", "claude-3"),
        ("ollama", "gpt-4o"),
        ("custom", "gpt-4o"),
        ("llmsim", "llmsim"),
        ("unheard-of", "gpt-4o"),
    ],
)
def test_profile_for_returns_none_when_the_name_or_the_type_is_unknown(provider_type: str, model_id: str) -> None:
    """A name that only begins alike, another vendor's name, and types without a table have no profile."""
    assert profile_for(provider_type, model_id) is None


def test_profile_for_returns_a_copy() -> None:
    """Whoever changes a profile does not change the table."""
    first = profile_for("openai", "gpt-4o")
    assert first is not None
    first.name = "changed"
    second = profile_for("openai", "gpt-4o")
    assert second is not None
    assert second.name == "GPT-4o"
