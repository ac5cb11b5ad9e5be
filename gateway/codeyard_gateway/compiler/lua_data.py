"""The tables of the Lua filter: routes as patterns, error shapes by path, rewrite rules, allowed origins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from codeyard_gateway.compiler.index import Index
from codeyard_gateway.compiler.model import JSON_PREFIX, PATH_FIELD, Api, PathTemplate, Route
from codeyard_gateway.settings import GatewaySettings

Value = str | int | bool | Mapping[str, "Value"] | Sequence["Value"]


def lua_data(index: Index, api: Api, settings: GatewaySettings) -> str:
    """Return Lua source that defines the table ``GATEWAY``."""
    return f"local GATEWAY = {_literal(gateway_table(index, api, settings), 0)}\n"


def gateway_table(index: Index, api: Api, settings: GatewaySettings) -> dict[str, Value]:
    """Return the table as Python values."""
    return {
        "json_prefix": JSON_PREFIX,
        "shapes": error_shapes(api),
        "routes": [_route(route) for route in api.routes],
        "json_twins": [lua_pattern(route.template) for route in api.routes if route.json_target],
        "sockets": [lua_pattern(socket.template) for socket in api.websockets],
        "ambiguous": dict.fromkeys(sorted(_folded(name) for name in ambiguous_names(index, api)), True),
        "reserved": dict.fromkeys(sorted(_reserved_names(index, api)), True),
        "origins": {origin.lower(): True for origin in settings.allowed_origins},
    }


def lua_pattern(template: PathTemplate) -> str:
    """Return the Lua pattern of a template, for a path without its query and with one slash at its end."""
    parts: list[str] = []
    for segment in template.segments:
        if segment.deep:
            return "^/" + "/".join([*parts, ".*$"])
        parts.append("[^/]+" if segment.parameter else re.sub(r"([^A-Za-z0-9_])", r"%\1", segment.literal or ""))
    return "^/" + "/".join(parts) + "/$"


def error_shapes(api: Api) -> dict[str, Value]:
    """Return the error shape by the first one or two literal segments of the path.

    Unknown paths take the shape of their neighbours. Where both shapes share a prefix the value is "mixed", and the
    filter looks at the single routes.
    """
    shapes: dict[str, set[str]] = {}
    served = [(route.template, route.error_shape) for route in api.routes]
    served += [(socket.template, socket.error_shape) for socket in api.websockets]
    for template, shape in served:
        literals: list[str] = []
        for segment in template.segments[:2]:
            if segment.literal is None:
                break
            literals.append(segment.literal)
        shapes.setdefault("/" + "/".join(literals), set()).add(shape)
    return {prefix: "mixed" if len(found) > 1 else min(found) for prefix, found in sorted(shapes.items())}


def ambiguous_names(index: Index, api: Api) -> set[str]:
    """Return names that are a path parameter of one route and a query parameter of another of the same casing.

    The transcoder can ignore a query parameter for all routes of a casing only. For these names the filter takes it out
    of the query where it would override the path.
    """
    found: set[str] = set()
    for casing in api.casings():
        routes = [route for route in api.routes if route.casing is casing]
        names = {name for route in routes for name in route.template.parameters}
        for route in routes:
            for rpc in filter(None, (route.rpc, route.json_rpc)):
                fields = {field.name for field in index.messages[rpc.request].json_fields()}
                if route.body != "*":
                    found |= (names & fields) - set(route.template.parameters)
    return found


def _reserved_names(index: Index, api: Api) -> set[str]:
    """Return the names, folded, that are a path parameter somewhere and a query parameter nowhere."""
    names = {name for route in api.routes for name in route.template.parameters} - ambiguous_names(index, api)
    return {_folded(form) for name in names for form in (name, PATH_FIELD + name)}


def _route(route: Route) -> Value:
    entry: dict[str, Value] = {
        "verb": route.verb,
        "pattern": lua_pattern(route.template),
        "shape": route.error_shape.value,
        "limit": route.max_body_bytes,
    }
    if route.raw_request:
        entry["raw"] = True
    if route.sse:
        entry["sse"] = True
    if route.template.parameters:
        entry["parameters"] = {_folded(name): True for name in route.template.parameters}
    return entry


def _folded(name: str) -> str:
    """Return a name as the filter compares it: the transcoder knows a field by its own and by its JSON name."""
    return name.replace("_", "").lower()


def _literal(value: Value, depth: int) -> str:
    """Return a value as a Lua literal; containers of containers go over several lines, for a readable golden file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        items = [f"[{_quoted(key)}] = {_literal(item, depth + 1)}" for key, item in value.items()]
        nested = depth < 1 or len(items) > 8
    else:
        items = [_literal(item, depth + 1) for item in value]
        nested = True
    if not items:
        return "{}"
    indent = "  " * (depth + 1)
    return (
        f"{{\n{indent}" + f",\n{indent}".join(items) + f"\n{'  ' * depth}}}" if nested else "{" + ", ".join(items) + "}"
    )


def _quoted(text: str) -> str:
    """Return a Lua string literal; everything but plain ASCII becomes a decimal escape."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text.encode())
    return '"' + "".join(plain) + '"'
