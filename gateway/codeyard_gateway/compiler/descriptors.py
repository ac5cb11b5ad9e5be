"""The descriptor copies that Envoy's transcoders read: one for each JSON casing.

They differ from the image in what Envoy cannot know or would refuse: json_name follows the casing, response_body that
the Lua filter unwraps is gone, fields for gRPC clients only are gone, and the HTTP twins of streams exist.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2

from codeyard_gateway.compiler import options
from codeyard_gateway.compiler.index import HTTP_BODY, Index
from codeyard_gateway.compiler.model import JSON_PREFIX, PATH_FIELD, Api, Casing, Route, Rpc

_HTTP_BODY_FILE = "google/api/httpbody.proto"


def descriptor_set(index: Index, api: Api, casing: Casing) -> bytes:
    """Return the serialised FileDescriptorSet for the transcoder of this casing."""
    copy = descriptor_pb2.FileDescriptorSet()
    copy.CopyFrom(index.image)
    guarded = guarded_fields(api)
    for file in copy.file:
        file.ClearField("source_code_info")
        prefix = f"{file.package}." if file.package else ""
        for message in file.message_type:
            _rewrite_message(index, f"{prefix}{message.name}", message, casing, guarded)
        for service in file.service:
            _rewrite_service(index, api, f"{prefix}{service.name}", service, file, guarded)
    _add_envoy_files(copy)
    return copy.SerializeToString(deterministic=True)


def guarded_fields(api: Api) -> set[tuple[str, str]]:
    """Return (message, field) of path parameters whose request message is also the whole body.

    Envoy drops the value of the path when the body has a member with the field's proto name, so that
    ``PATCH /things/mine {"id": "other"}`` would change the other thing. When the member is known by its JSON name only,
    both values are written and the path's, which comes last, counts. So these fields get another proto name, and
    reject_binding_body_field_collisions refuses a body that uses it.
    """
    return {
        (rpc.request, name)
        for route in api.routes
        for rpc in (route.rpc, route.json_rpc)
        for name in (route.guarded_parameters if rpc else ())
        if rpc
    }


def _rewrite_message(
    index: Index, name: str, message: descriptor_pb2.DescriptorProto, casing: Casing, guarded: set[tuple[str, str]]
) -> None:
    entry = index.messages[name]
    kept = [field for field in message.field if not options.is_grpc_only(field)]
    if not name.startswith("google."):
        for field in kept:
            field.json_name = entry.json_name(field, casing)
            if (name, field.name) in guarded:
                field.name = PATH_FIELD + field.name
    if len(kept) < len(message.field):
        _replace_fields(message, kept)
    for nested in message.nested_type:
        _rewrite_message(index, f"{name}.{nested.name}", nested, casing, guarded)


def _replace_fields(message: descriptor_pb2.DescriptorProto, kept: list[descriptor_pb2.FieldDescriptorProto]) -> None:
    """Drop fields, and the oneofs that lost all of theirs: an empty oneof is not a valid descriptor."""
    used = sorted({field.oneof_index for field in kept if field.HasField("oneof_index")})
    oneofs = [message.oneof_decl[number] for number in used]
    fields = [_copied(field) for field in kept]
    for field in fields:
        if field.HasField("oneof_index"):
            field.oneof_index = used.index(field.oneof_index)
    declarations = [descriptor_pb2.OneofDescriptorProto.FromString(oneof.SerializeToString()) for oneof in oneofs]
    del message.field[:]
    del message.oneof_decl[:]
    message.field.extend(fields)
    message.oneof_decl.extend(declarations)


def _copied(field: descriptor_pb2.FieldDescriptorProto) -> descriptor_pb2.FieldDescriptorProto:
    return descriptor_pb2.FieldDescriptorProto.FromString(field.SerializeToString())


def _rewrite_service(
    index: Index,
    api: Api,
    name: str,
    service: descriptor_pb2.ServiceDescriptorProto,
    file: descriptor_pb2.FileDescriptorProto,
    guarded: set[tuple[str, str]],
) -> None:
    declared = {rpc.name: rpc for rpc in api.rpcs if rpc.service == name and rpc.twin_of is None}
    streams = [route for route in api.routes if route.rpc.service == name and route.sse]
    for method in service.method:
        if method.name not in declared or not options.has_http_rule(method):
            continue
        if any(route.rpc.name == method.name for route in streams):
            options.clear_http_rule(method)
        else:
            for rule in options.http_bindings(method):
                if rule.response_body and not _answers_bytes(index, declared[method.name], rule.response_body):
                    rule.response_body = ""
                verb = str(rule.WhichOneof("pattern"))
                setattr(rule, verb, _guarded_path(getattr(rule, verb), declared[method.name], guarded))
    for rpc in [rpc for rpc in api.rpcs if rpc.service == name and rpc.twin_of is not None]:
        _add_twin(service, rpc, [route for route in streams if rpc in (route.target, route.json_target)], guarded)
    if streams and _HTTP_BODY_FILE not in file.dependency:
        file.dependency.append(_HTTP_BODY_FILE)


def _answers_bytes(index: Index, rpc: Rpc, name: str) -> bool:
    field = index.resolve(rpc.response, name)
    return field is not None and field.type_name == f".{HTTP_BODY}"


def _guarded_path(path: str, rpc: Rpc, guarded: set[tuple[str, str]]) -> str:
    """Return the path with the parameters' names in Envoy's descriptors."""
    for message, name in guarded:
        if message == rpc.request:
            path = path.replace(f"{{{name}}}", f"{{{PATH_FIELD}{name}}}").replace(
                f"{{{name}=", f"{{{PATH_FIELD}{name}="
            )
    return path


def _add_twin(
    service: descriptor_pb2.ServiceDescriptorProto, rpc: Rpc, routes: list[Route], guarded: set[tuple[str, str]]
) -> None:
    method = service.method.add(
        name=rpc.name,
        input_type=f".{rpc.request}",
        output_type=f".{HTTP_BODY}",
        server_streaming=rpc.streaming.server_streams,
    )
    rule = options.http_rule(method)
    for number, route in enumerate(routes):
        target = rule if number == 0 else rule.additional_bindings.add()
        prefix = JSON_PREFIX if rpc == route.json_target else ""
        setattr(target, route.verb.lower(), prefix + _guarded_path(route.template.text, rpc, guarded))
        target.body = route.body


def _add_envoy_files(copy: descriptor_pb2.FileDescriptorSet) -> None:
    """Put the files that Envoy needs in front: it wants a file after its imports, and the twins brought a new one."""
    first = options.envoy_files()
    names = {file.name for file in first}
    rest = [file for file in copy.file if file.name not in names]
    copy.CopyFrom(descriptor_pb2.FileDescriptorSet(file=[*first, *rest]))
