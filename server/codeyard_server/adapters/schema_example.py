"""Makes up arguments for a tool from its JSON Schema: the smallest that are likely to be accepted.

Schemas come from anybody's tool server, so the work is bounded and a schema that makes no sense gives no arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MAX_VALUES = 1000
_MAX_DEPTH = 8
_MAX_ITEMS = 16
_MAX_LENGTH = 10_000

_BY_FORMAT = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT1M",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "01933b5a-0000-7000-8000-000000000000",
}
_URL_WORDS = frozenset({"url", "uri", "href", "link"})


def example_arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each required property of an object schema; ``{}`` for a schema that is malformed or huge.

    Constants, defaults, the first of an enumeration and given examples are preferred; bounds of numbers and lengths of
    strings are kept; patterns are not.
    """
    try:
        value = _Examples(schema).value(schema, "", 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class _Examples:
    """Makes examples for the parts of one document."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MAX_VALUES

    def value(self, part: Any, name: str, depth: int) -> Any:
        """Return an example for a part of the document; ``name`` is the property it belongs to."""
        if depth > _MAX_DEPTH or not isinstance(part, Mapping):
            return None
        schema = self._flattened(part, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        match _kind(schema):
            case "object":
                properties = schema.get("properties", {})
                return {key: self.value(properties.get(key, {}), key, depth + 1) for key in schema.get("required", ())}
            case "array":
                least = max(schema.get("minItems", 0), int("items" in schema))
                count = min(least, schema.get("maxItems", _MAX_ITEMS), _MAX_ITEMS)
                return [self.value(schema.get("items", {}), name, depth + 1) for _ in range(count)]
            case "integer":
                return math.ceil(_number(schema))
            case "number":
                return _number(schema)
            case "boolean":
                return False
            case "null":
                return None
        return _string(schema, name)

    def _flattened(self, part: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Return the schema with its reference, its allOf and one branch of anyOf and oneOf merged in."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("The schema is too large")
        flat = dict(part)
        others = list(flat.pop("allOf", ()))
        if "$ref" in flat:
            others.append(self._referenced(flat.pop("$ref")))
        for key in ("anyOf", "oneOf"):
            others.extend([branch for branch in flat.pop(key, ()) if _kind(branch) != "null"][:1])
        for other in others:
            if depth > _MAX_DEPTH or not isinstance(other, Mapping):
                continue
            merged = self._flattened(other, depth + 1)
            properties = {**merged.get("properties", {}), **flat.get("properties", {})}
            required = dict.fromkeys([*flat.get("required", ()), *merged.get("required", ())])
            flat = {**merged, **flat}
            if properties:
                flat |= {"properties": properties, "required": list(required)}
        return flat

    def _referenced(self, reference: str) -> Any:
        """Return what a reference into the same document (``#/$defs/…``) points to, or None."""
        target: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        return target if reference.startswith("#") else None


def _kind(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "string"
    kind = schema.get("type")
    if isinstance(kind, list | tuple):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _number(schema: Mapping[str, Any]) -> float:
    """Return 1, or the number next to it that the bounds allow."""
    number: float = max(1, schema.get("minimum", 1))
    if number <= schema.get("exclusiveMinimum", -math.inf):
        number = schema["exclusiveMinimum"] + 1
    number = min(number, schema.get("maximum", number))
    if number >= schema.get("exclusiveMaximum", math.inf):
        number = schema["exclusiveMaximum"] - 1
    step = schema.get("multipleOf")
    return math.ceil(number / step) * step if step else number


def _string(schema: Mapping[str, Any], name: str) -> str:
    words = set(name.lower().replace("-", "_").split("_"))
    default = "https://example.com/" if words & _URL_WORDS else "example"
    text = _BY_FORMAT.get(schema.get("format", ""), default)
    text = text.ljust(min(schema.get("minLength", 0), _MAX_LENGTH), "x")
    return text[: schema.get("maxLength", len(text))]
