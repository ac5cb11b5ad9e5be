"""JSON Schemas of messages, as components of the OpenAPI document.

A message that is sent and one that is received differ: a request may say null for absent and may leave things out, an
answer always prints its plain members. A message that occurs in both gets two components, the request's with the suffix
"Input".
"""

from __future__ import annotations

import enum
from typing import Any

from codeyard_gateway.compiler import bounds, options
from codeyard_gateway.compiler.bounds import Schema
from codeyard_gateway.compiler.index import Field, Index, Message
from codeyard_gateway.compiler.model import Casing

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BytesValue": {"type": "string", "contentEncoding": "base64"},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.Int32Value": {"type": "integer", "format": "int32"},
    "google.protobuf.UInt32Value": {"type": "integer", "minimum": 0},
    "google.protobuf.DoubleValue": {"type": "number", "format": "double"},
    "google.protobuf.FloatValue": {"type": "number", "format": "float"},
}
_INT32: Schema = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_SCALARS: dict[Any, Schema] = {
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_INT32: _INT32,
    Field.TYPE_SINT32: _INT32,
    Field.TYPE_SFIXED32: _INT32,
    Field.TYPE_UINT32: _UINT32,
    Field.TYPE_FIXED32: _UINT32,
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
}


class Direction(enum.StrEnum):
    """Who writes the JSON."""

    REQUEST = "request"
    RESPONSE = "response"


Key = tuple[str, Casing, Direction, frozenset[str]]


class SchemaBuilder:
    """Builds component schemas on demand; ``components`` holds them by name when the document is complete."""

    def __init__(self, index: Index, answered: set[str], both_casings: set[str]) -> None:
        """``answered``: messages that occur in answers; ``both_casings``: messages printed in more than one casing."""
        self.index = index
        self.components: dict[str, Schema] = {}
        self._answered = answered
        self._both_casings = both_casings
        self._names: dict[Key, str] = {}

    def reference(
        self, message: str, casing: Casing, direction: Direction, without: frozenset[str] = frozenset()
    ) -> Schema:
        """Return a reference to the component of a message, or the inline schema of a well-known one.

        ``without`` are proto names of fields that are bound elsewhere (path parameters).
        """
        if message in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message])
        key = (message, casing, direction, without)
        if key not in self._names:
            name = self._name(key)
            self._names[key] = name
            self.components[name] = {}
            self.components[name].update(self._message(self.index.messages[message], key))
        return {"$ref": f"#/components/schemas/{self._names[key]}"}

    def field(self, message: Message, field: Field, casing: Casing, direction: Direction) -> Schema:
        """Return the schema of one member with its description."""
        rules = options.field_bounds(field)
        if self.index.is_map(field):
            schema = self._map(field, casing, direction) | bounds.map_schema(rules)
        elif field.label == Field.LABEL_REPEATED:
            items = self._value(field, rules.repeated.items, casing, direction)
            schema = {"type": "array", "items": items, **bounds.repeated_schema(rules)}
        else:
            schema = self._value(field, rules, casing, direction)
            if bounds.is_list(field):
                schema = {"type": "array", "items": {}} | bounds.list_value_schema(rules)
        if direction is Direction.REQUEST and not bounds.is_required(field):
            schema = _nullable(schema)
        texts = [message.field_comments.get(field.name, ""), *(rule.message for rule in rules.cel if rule.message)]
        description = "\n".join(dict.fromkeys(text for text in texts if text))
        return {**schema, "description": description} if description else schema

    def parameter(self, message: Message, field: Field, casing: Casing) -> Schema | None:
        """Return the schema of a path or query parameter, or None when the type cannot be one."""
        if self.index.is_map(field):
            return None
        name = field.type_name.removeprefix(".")
        if field.type == Field.TYPE_MESSAGE and _WELL_KNOWN.get(name, {}).get("type") not in _PLAIN:
            return None
        schema = self.field(message, field, casing, Direction.RESPONSE)
        schema.pop("description", None)
        return schema

    def _name(self, key: Key) -> str:
        message, casing, direction, _ = key
        short = message.split(".")[-1]
        same = [name for name in self.index.messages if name.split(".")[-1] == short and not name.startswith("google.")]
        if len(same) > 1:
            short = "".join(part[:1].upper() + part[1:] for part in message.split(".")[1:] if part != "v1")
        if message in self._both_casings and casing is Casing.CAMEL:
            short += "Camel"
        if direction is Direction.REQUEST and message in self._answered:
            short += "Input"
        name, number = short, 2
        while name in self.components:
            name, number = f"{short}{number}", number + 1
        return name

    def _message(self, message: Message, key: Key) -> Schema:
        _, casing, direction, without = key
        properties: dict[str, Schema] = {}
        required = []
        for field in message.json_fields():
            if field.name in without:
                continue
            name = message.json_name(field, casing)
            properties[name] = self.field(message, field, casing, direction)
            if _is_always_there(field) if direction is Direction.RESPONSE else bounds.is_required(field):
                required.append(name)
        schema: Schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if message.comment:
            schema["description"] = message.comment
        return schema

    def _map(self, field: Field, casing: Casing, direction: Direction) -> Schema:
        value = self.index.message_of(field).known_field("value")
        rules = options.field_bounds(field).map.values
        return {"type": "object", "additionalProperties": self._value(value, rules, casing, direction)}

    def _value(self, field: Field, rules: Any, casing: Casing, direction: Direction) -> Schema:
        if field.type == Field.TYPE_MESSAGE:
            return self.reference(field.type_name.removeprefix("."), casing, direction)
        if field.type == Field.TYPE_ENUM:
            values = self.index.enums[field.type_name.removeprefix(".")].value
            return {"type": "string", "enum": [value.name for value in values]}
        schema = {**_SCALARS[field.type], **bounds.bounds_schema(field, rules)}
        return _without_doubled_limits(schema)


_PLAIN = {"string", "integer", "number", "boolean"}


def _is_always_there(field: Field) -> bool:
    """Whether an answer always has the member: zero values and empty lists are printed, unset messages are not."""
    if field.label == Field.LABEL_REPEATED:
        return True
    return field.type != Field.TYPE_MESSAGE and not field.HasField("oneof_index")


def _without_doubled_limits(schema: Schema) -> Schema:
    """Drop the limits of the type where the annotation has its own."""
    if "exclusiveMinimum" in schema:
        schema.pop("minimum", None)
    if "exclusiveMaximum" in schema:
        schema.pop("maximum", None)
    return schema


def _nullable(schema: Schema) -> Schema:
    """Let null pass: the gateway reads it as absent."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if "type" not in schema:
        return schema
    schema = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema
