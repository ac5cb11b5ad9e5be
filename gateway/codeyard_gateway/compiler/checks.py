"""Mistakes in the protos that would only show at run time, or never. Each returns lines "file: method: reason"."""

from __future__ import annotations

import json
from typing import Any

from codeyard.http.v1 import options_pb2
from google.protobuf import descriptor_pb2

from codeyard_gateway.compiler import options
from codeyard_gateway.compiler.index import HTTP_BODY, Field, Index, ServiceEntry, walk_fields
from codeyard_gateway.compiler.model import PATH_FIELD, PathTemplate, Route, Rpc, Streaming, WebSocketRoute
from codeyard_gateway.compiler.openapi_parts import known_error_status

_WIDE = {
    Field.TYPE_INT64: "int64",
    Field.TYPE_UINT64: "uint64",
    Field.TYPE_SINT64: "sint64",
    Field.TYPE_FIXED64: "fixed64",
    Field.TYPE_SFIXED64: "sfixed64",
}
_WIDE_WRAPPERS = {".google.protobuf.Int64Value": "int64", ".google.protobuf.UInt64Value": "uint64"}


def reaches_http(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    """Whether a method has a route or a WebSocket."""
    return options.has_http_rule(method) or bool(options.method_rules(method).websocket)


def service_options(entry: ServiceEntry) -> list[str]:
    """A service with a route needs its rules, complete."""
    if not any(reaches_http(method) for method in entry.proto.method):
        return []
    where = f"{entry.file}: {entry.name}"
    if not options.has_service_rules(entry.proto):
        return [f"{where}: has routes but no (codeyard.http.v1.service) option"]
    rules = options.service_rules(entry.proto)
    missing = [
        name
        for name, value in (("casing", rules.casing), ("error_shape", rules.error_shape), ("tag", rules.tag))
        if not value
    ]
    return [f"{where}: (codeyard.http.v1.service).{name} is not set" for name in missing]


def method_options(index: Index, entry: ServiceEntry, method: descriptor_pb2.MethodDescriptorProto) -> list[str]:
    """The options of one method, without its paths."""
    where = f"{entry.file}: {entry.name}.{method.name}"
    rules = options.method_rules(method)
    found = (
        [] if rules.auth != options_pb2.AUTH_UNSPECIFIED else [f"{where}: (codeyard.http.v1.method).auth is not set"]
    )
    if rules.success_status and not 200 <= rules.success_status < 400:
        found.append(f"{where}: success_status {rules.success_status} is not 2xx or 3xx")
    found += [
        f"{where}: error status {status} has no text in the OpenAPI document"
        for status in rules.error_statuses
        if not known_error_status(status)
    ]
    if rules.HasField("sse"):
        found += _sse(where, entry, method, rules)
    elif options.has_http_rule(method):
        found += _streams(index, where, method)
    for name, text in (("request_example", rules.request_example), ("response_example", rules.response_example)):
        if text and not _is_json(text):
            found.append(f"{where}: {name} is not JSON")
    if reaches_http(method):
        roots = {method.input_type, method.output_type} | _json_method_types(entry, rules.sse.json_method)
        found += wide_numbers(index, where, sorted(root.removeprefix(".") for root in roots))
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_method_types(entry: ServiceEntry, name: str) -> set[str]:
    return {part for m in entry.proto.method if name and m.name == name for part in (m.input_type, m.output_type)}


def _sse(
    where: str,
    entry: ServiceEntry,
    method: descriptor_pb2.MethodDescriptorProto,
    rules: options_pb2.MethodRules,
) -> list[str]:
    names = {other.name: other for other in entry.proto.method}
    found = []
    if not method.server_streaming or method.client_streaming:
        found.append(f"{where}: sse is set, but the method is not server-streaming")
    if not options.has_http_rule(method):
        found.append(f"{where}: sse is set, but the method has no google.api.http rule")
    if rules.success_status not in (0, 200):
        found.append(f"{where}: sse answers 200, not {rules.success_status}")
    wanted = rules.sse.json_method
    if wanted and wanted not in names:
        found.append(f'{where}: sse.json_method "{wanted}" is not a method of {entry.name}')
    elif wanted and (names[wanted].server_streaming or names[wanted].client_streaming):
        found.append(f'{where}: sse.json_method "{wanted}" is not unary')
    taken = [f"{name}Http" for name in (method.name, wanted) if name and f"{name}Http" in names]
    return found + [f'{where}: the name "{name}" belongs to its HTTP twin' for name in taken]


def _streams(index: Index, where: str, method: descriptor_pb2.MethodDescriptorProto) -> list[str]:
    if method.client_streaming and method.server_streaming:
        return [f"{where}: a bidirectional method cannot have a google.api.http rule; use websocket"]
    bindings = options.http_bindings(method)
    answers_bytes = all(
        method.output_type == f".{HTTP_BODY}" or _is_bytes_field(index, method.output_type, binding.response_body)
        for binding in bindings
    )
    if method.server_streaming and not answers_bytes:
        return [f"{where}: a server-streaming method over HTTP needs sse, or google.api.HttpBody as its answer"]
    if method.client_streaming and not all(
        method.input_type == f".{HTTP_BODY}" or _is_bytes_field(index, method.input_type, binding.body)
        for binding in bindings
    ):
        return [f"{where}: a client-streaming method over HTTP takes google.api.HttpBody"]
    return []


def _is_bytes_field(index: Index, message: str, name: str) -> bool:
    field = index.resolve(message.removeprefix("."), name) if name and name != "*" else None
    return field is not None and field.type_name == f".{HTTP_BODY}"


def raw_request(index: Index, rpc: Rpc, body: str) -> bool:
    """Whether the request body is taken as bytes, whatever its content type."""
    return bool(body) and (rpc.request == HTTP_BODY or _is_bytes_field(index, rpc.request, body))


def wide_numbers(index: Index, where: str, roots: list[str]) -> list[str]:
    """JSON prints 64-bit integers as strings; no message that reaches JSON may hold one."""
    found = set()
    for root in roots:
        if root.startswith("google."):
            continue
        for message, field in walk_fields(index, root):
            kind = _WIDE.get(field.type) or _WIDE_WRAPPERS.get(field.type_name)
            if kind:
                found.add(f"{where}: {message.name}.{field.name} is {kind}, a string in JSON; use int32 or double")
    return sorted(found)


def binding(
    index: Index,
    where: str,
    rpc: Rpc,
    json_rpc: Rpc | None,
    verb: str,
    template: PathTemplate,
    rule: Any,
) -> list[str]:
    """One google.api.http binding: its verb, the fields of its path, body and response_body."""
    found = []
    for request in [rpc.request] + ([json_rpc.request] if json_rpc else []):
        for parameter in template.parameters:
            field = index.resolve(request, parameter)
            if field is None:
                found.append(f'{where}: path parameter "{parameter}" is not a field of {request}')
            elif field.type == Field.TYPE_MESSAGE or field.label == Field.LABEL_REPEATED:
                found.append(f'{where}: path parameter "{parameter}" of {request} is not a single scalar')
    if rule.body and verb == "get":
        found.append(f"{where}: GET has no body")
    if rule.body not in ("", "*") and index.resolve(rpc.request, rule.body) is None:
        found.append(f'{where}: body "{rule.body}" is not a field of {rpc.request}')
    if any(field.name.startswith(PATH_FIELD) for field in index.messages[rpc.request].proto.field):
        found.append(f'{where}: field names that begin with "{PATH_FIELD}" belong to the gateway')
    if rule.response_body:
        found += _response_body(index, where, rpc, rule.response_body)
    return found


def _response_body(index: Index, where: str, rpc: Rpc, name: str) -> list[str]:
    field = index.resolve(rpc.response, name)
    if field is None:
        return [f'{where}: response_body "{name}" is not a field of {rpc.response}']
    if field.type_name == f".{HTTP_BODY}":
        return []
    fields = index.messages[rpc.response].json_fields()
    if len(fields) != 1:
        return [f'{where}: response_body "{name}" needs {rpc.response} to have that field only; it has {len(fields)}']
    return []


def websocket(index: Index, where: str, rpc: Rpc, template: PathTemplate) -> list[str]:
    """A WebSocket carries a bidirectional method; its path parameters are in the first request message.

    They are fields of the request itself or of one of its messages (the opening step of a oneof).
    """
    if rpc.streaming is not Streaming.BIDI:
        return [f"{where}: websocket is set, but the method is not bidirectional"]
    steps = [
        field.type_name.removeprefix(".")
        for field in index.messages[rpc.request].proto.field
        if field.type == Field.TYPE_MESSAGE and field.label != Field.LABEL_REPEATED
    ]
    return [
        f'{where}: path parameter "{parameter}" is not in the first message of {rpc.request}'
        for parameter in template.parameters
        if not any(index.resolve(message, parameter) for message in [rpc.request, *steps])
    ]


def duplicate_routes(routes: list[Route], sockets: list[WebSocketRoute], files: dict[str, str]) -> list[str]:
    """Two methods on one verb and path: which one answers would depend on their order."""
    found = []
    owners: dict[tuple[str, str], Rpc] = {}
    keys = [((route.verb, route.template.shape), route.rpc, route.template) for route in routes]
    keys += [(("WebSocket", socket.template.shape), socket.rpc, socket.template) for socket in sockets]
    for key, rpc, template in keys:
        owner = owners.setdefault(key, rpc)
        if owner is not rpc:
            where = f"{files[rpc.service]}: {rpc.service}.{rpc.name}"
            found.append(f"{where}: {key[0]} {template.text} is already the route of {owner.service}.{owner.name}")
    return found
