"""Turn buf.validate annotations into JSON Schema keywords."""

from __future__ import annotations

import re
from typing import Any

from buf.validate import validate_pb2

from codeyard_gateway.compiler import options
from codeyard_gateway.compiler.index import Field

Schema = dict[str, Any]

_FORMATS = {
    "uuid": "uuid",
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
}
_NUMBERS = {
    Field.TYPE_INT32: "int32",
    Field.TYPE_SINT32: "sint32",
    Field.TYPE_SFIXED32: "sfixed32",
    Field.TYPE_UINT32: "uint32",
    Field.TYPE_FIXED32: "fixed32",
    Field.TYPE_DOUBLE: "double",
    Field.TYPE_FLOAT: "float",
}
_LIST_SIZE = re.compile(r"this\.size\(\) <= (\d+)")
_LIST_OF_STRINGS = re.compile(r"this\.all\(v, type\(v\) == string")
_ITEM_SIZE = re.compile(r"size\(string\(v\)\) <= (\d+)")
_ITEM_NOT_EMPTY = re.compile(r"size\(string\(v\)\) > 0")


def bounds_schema(field: Field, rules: validate_pb2.FieldRules) -> Schema:
    """Return the keywords that the rules of one value add to its schema."""
    if field.type == Field.TYPE_STRING:
        return _string(rules.string)
    if field.type in _NUMBERS:
        return _number(getattr(rules, _NUMBERS[field.type]))
    return {}


def repeated_schema(rules: validate_pb2.FieldRules) -> Schema:
    """Return the keywords of a list."""
    schema: Schema = {}
    if rules.repeated.HasField("min_items"):
        schema["minItems"] = rules.repeated.min_items
    if rules.repeated.HasField("max_items"):
        schema["maxItems"] = rules.repeated.max_items
    if rules.repeated.unique:
        schema["uniqueItems"] = True
    return schema


def is_list(field: Field) -> bool:
    """Whether the member is a ListValue, or a Value that an expression holds to a list."""
    if field.type_name == ".google.protobuf.ListValue":
        return True
    rules = options.field_bounds(field)
    return field.type_name == ".google.protobuf.Value" and any(
        "type(this) == list" in rule.expression for rule in rules.cel
    )


def list_value_schema(rules: validate_pb2.FieldRules) -> Schema:
    """Return the keywords of a free list, whose bounds only an expression can say.

    Read are the forms this API uses: ``this.size() <= N``, ``type(v) == string``, ``size(string(v)) <= N`` and ``> 0``.
    """
    text = " ".join(rule.expression for rule in rules.cel)
    schema: Schema = {}
    if match := _LIST_SIZE.search(text):
        schema["maxItems"] = int(match[1])
    if _LIST_OF_STRINGS.search(text):
        items: Schema = {"type": "string"}
        if match := _ITEM_SIZE.search(text):
            items["maxLength"] = int(match[1])
        if _ITEM_NOT_EMPTY.search(text):
            items["minLength"] = 1
        schema["items"] = items
    return schema


def map_schema(rules: validate_pb2.FieldRules) -> Schema:
    """Return the keywords of a map."""
    schema: Schema = {}
    if rules.map.HasField("min_pairs"):
        schema["minProperties"] = rules.map.min_pairs
    if rules.map.HasField("max_pairs"):
        schema["maxProperties"] = rules.map.max_pairs
    return schema


def is_required(field: Field) -> bool:
    """Whether a request without the member is refused.

    By the annotation; or because the zero value of a field without presence breaks its own bounds.
    """
    rules = options.field_bounds(field)
    if rules.required:
        return True
    if field.proto3_optional or field.type == Field.TYPE_MESSAGE or field.HasField("oneof_index"):
        return False
    if rules.ignore != validate_pb2.IGNORE_UNSPECIFIED:
        return False
    if field.label == Field.LABEL_REPEATED:
        return rules.repeated.min_items > 0
    return not _admits_zero(field, bounds_schema(field, rules))


def _admits_zero(field: Field, schema: Schema) -> bool:
    """Whether "" or 0 satisfies the keywords."""
    if field.type == Field.TYPE_STRING:
        pattern = schema.get("pattern")
        return (
            "format" not in schema
            and schema.get("minLength", 0) == 0
            and "" in schema.get("enum", [""])
            and (pattern is None or re.search(pattern, "") is not None)
        )
    return (
        0 in schema.get("enum", [0])
        and schema.get("minimum", 0) <= 0 <= schema.get("maximum", 0)
        and schema.get("exclusiveMinimum", -1) < 0 < schema.get("exclusiveMaximum", 1)
    )


def _string(rules: validate_pb2.StringRules) -> Schema:
    schema: Schema = {}
    if rules.HasField("const"):
        schema["const"] = rules.const
    for name, keyword in (("min_len", "minLength"), ("max_len", "maxLength"), ("max_bytes", "maxLength")):
        if rules.HasField(name):
            schema[keyword] = getattr(rules, name)
    if rules.HasField("len"):
        schema["minLength"] = schema["maxLength"] = rules.len
    if rules.HasField("pattern"):
        schema["pattern"] = rules.pattern
    elif rules.HasField("prefix"):
        schema["pattern"] = "^" + re.escape(rules.prefix)
    for name, format_name in _FORMATS.items():
        if rules.WhichOneof("well_known") == name:
            schema["format"] = format_name
    enum_values = list(getattr(rules, "in"))
    if enum_values:
        schema["enum"] = enum_values
    return schema


def _number(rules: Any) -> Schema:
    schema: Schema = {}
    names = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum", "const": "const"}
    for name, keyword in names.items():
        if rules.HasField(name):
            schema[keyword] = getattr(rules, name)
    enum_values = list(getattr(rules, "in"))
    if enum_values:
        schema["enum"] = enum_values
    return schema
