"""Example values for the OpenAPI document, where the proto gives none: made from names, bounds and comments."""

from __future__ import annotations

import re
from typing import Any

from codeyard_gateway.compiler.bounds import Schema

_UUID = "01930000-0000-7000-8000-000000000001"
_TIME = "2026-01-02T03:04:05Z"
_QUOTED = re.compile(r'^"([^"]+)"')


class ExampleBuilder:
    """Makes one example for a schema; ``components`` resolves its references."""

    def __init__(self, components: dict[str, Schema]) -> None:
        self._components = components

    def example(self, schema: Schema, name: str = "", depth: int = 0) -> Any:
        """Return an example that satisfies the schema."""
        if "$ref" in schema:
            return self.example(self._components[schema["$ref"].rsplit("/", 1)[1]], name, depth + 1)
        if "anyOf" in schema:
            return self.example(schema["anyOf"][0], name, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type", "object")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return _string(schema, name)
        return False if kind == "boolean" else _number(schema)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        members = schema.get("properties", {})
        # Below the second level only what must be there, or recursive messages would not end.
        kept = members if depth < 3 else {key: value for key, value in members.items() if key in required}
        return {key: self.example(value, key, depth) for key, value in kept.items()}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        items = schema.get("items", {})
        if not items or depth > 2:
            return [] if not schema.get("minItems") else [self.example(items, name, depth + 1)]
        return [self.example(items, name, depth + 1)]


def _string(schema: Schema, name: str) -> str:
    described = _QUOTED.match(schema.get("description", ""))
    if schema.get("format") == "uuid" or name == "id" or name.endswith(("_id", "Id")):
        return _UUID
    if schema.get("format") == "date-time":
        return _TIME
    if described:
        return described[1]
    pattern = schema.get("pattern", "")
    if schema.get("format") == "uri" or pattern.startswith("^https"):
        return "https://example.com"
    text = name.replace("_", " ") or "text"
    return text[: schema.get("maxLength", len(text))]


def _number(schema: Schema) -> int:
    low = schema.get("minimum", 0)
    if "exclusiveMinimum" in schema:
        low = int(schema["exclusiveMinimum"]) + 1
    return max(int(low), 0) if low > -(2**31) else 0
