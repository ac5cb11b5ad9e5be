"""The committed route table, for tests that must hold for every route and every RPC."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

TABLE: Mapping[str, Any] = json.loads(
    (pathlib.Path(__file__).parents[2] / "gateway" / "generated" / "routes.json").read_text(encoding="utf-8")
)
ROUTES: list[Mapping[str, Any]] = TABLE["routes"]
SOCKETS: list[Mapping[str, Any]] = TABLE["websockets"]


def _rpcs() -> Mapping[str, Mapping[str, Any]]:
    found = {rpc["rpc"]: rpc for rpc in TABLE["rpcs"]}
    for path in (socket["rpc"] for socket in SOCKETS):
        # The edge's own twin: it sends frames and no messages. Envoy does not know it, so the table leaves it out.
        twin = {"rpc": f"{path}Http", "response": "google.api.HttpBody", "twin_of": path}
        found[twin["rpc"]] = found[path] | twin
    return found


RPCS = _rpcs()
"""Path of an RPC -> its messages, whether it streams, whether it needs a credential, and whose twin it is."""

_PARAMETER = re.compile(r"\{(\w+)(=\*\*)?\}")


def parameters(path: str) -> list[str]:
    """Return the names of the parameters of a path template."""
    return [match[1] for match in _PARAMETER.finditer(path)]


def fill(path: str, values: Mapping[str, Any]) -> str:
    """Return the path with its parameters filled in; one that ``values`` lacks is filled in empty."""
    return _PARAMETER.sub(lambda match: str(values.get(match[1], "")), path)
