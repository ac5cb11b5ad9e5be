"""What is publicly known of models by their names.

The data is beside this file: ``profiles.tsv`` holds one line a profile (prices in USD per million tokens, sizes in
tokens, lists joined with ``+``, an empty cell for what is not known).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Mapping

from codeyard.models.v1 import model_pb2

_VENDOR_OF_TYPE = {"openai": "openai", "azure_openai": "openai", "anthropic": "anthropic"}
"""Which part of the table a provider type looks in; the other types have no profiles."""

_EFFORT_NAMES = {"none": "None", "low": "Low", "medium": "Medium", "high": "High", "xhigh": "Extra High"}


def profile_for(provider_type: str, model_id: str) -> model_pb2.ModelProfile | None:
    """Return a new copy of the profile of a model, or None when its type or its name is unknown.

    A profile is for the names that equal its entry or continue it after a dash (``gpt-4o-2024-11-20``); of several such
    entries the longest counts.
    """
    vendor = _VENDOR_OF_TYPE.get(provider_type)
    if vendor is None:
        return None
    table = _profiles()[vendor]
    name = model_id
    while name not in table:
        name, dash, _ = name.rpartition("-")
        if not dash:
            return None
    profile = model_pb2.ModelProfile()
    profile.CopyFrom(table[name])
    return profile


@functools.cache
def _profiles() -> Mapping[str, Mapping[str, model_pb2.ModelProfile]]:
    """Return vendor → entry → profile."""
    tables: dict[str, dict[str, model_pb2.ModelProfile]] = {}
    for row in csv.DictReader(_read("profiles.tsv").splitlines(), dialect="excel-tab"):
        tables.setdefault(row["vendor"], {})[row["match"]] = _profile(row)
    return tables


def _profile(row: Mapping[str, str]) -> model_pb2.ModelProfile:
    profile = model_pb2.ModelProfile(
        name=row["name"],
        family=row["family"],
        release_date=row["release_date"],
        last_updated=row["last_updated"],
        knowledge=row["knowledge"],
        attachment=row["attachment"] == "yes",
        reasoning=row["reasoning"] == "yes",
        temperature=row["temperature"] == "yes",
        tool_call=row["tool_call"] == "yes",
        structured_output=row["structured_output"] == "yes",
        open_weights=False,
        cost=model_pb2.ModelCost(input=float(row["cost_input"]), output=float(row["cost_output"])),
        limits=model_pb2.ModelLimits(context=int(row["context"]), output=int(row["output"])),
        modalities=model_pb2.ModelModalities(
            input=row["input_modalities"].split("+"), output=row["output_modalities"].split("+")
        ),
    )
    if row["cost_cache_read"]:
        profile.cost.cache_read = float(row["cost_cache_read"])
    if row["efforts"]:
        profile.reasoning_effort.default = row["default_effort"]
        for value in row["efforts"].split("+"):
            profile.reasoning_effort.values.add(value=value, name=_EFFORT_NAMES[value])
    return profile


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
