"""Typed access to the options on services, methods and fields.

The one place where protobuf extensions are read: their generated stubs cannot say which type an extension holds.
"""

from __future__ import annotations

from typing import Any, cast

from buf.validate import validate_pb2
from codeyard.http.v1 import options_pb2
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2


def _extension(options: object, extension: object) -> Any:
    return cast(Any, options).Extensions[extension]


def has_service_rules(service: descriptor_pb2.ServiceDescriptorProto) -> bool:
    """Whether the service carries the (codeyard.http.v1.service) option."""
    return bool(cast(Any, service.options).HasExtension(options_pb2.service))


def service_rules(service: descriptor_pb2.ServiceDescriptorProto) -> options_pb2.ServiceRules:
    """Return the (codeyard.http.v1.service) option, empty when absent."""
    return cast(options_pb2.ServiceRules, _extension(service.options, options_pb2.service))


def method_rules(method: descriptor_pb2.MethodDescriptorProto) -> options_pb2.MethodRules:
    """Return the (codeyard.http.v1.method) option, empty when absent."""
    return cast(options_pb2.MethodRules, _extension(method.options, options_pb2.method))


def is_grpc_only(field: descriptor_pb2.FieldDescriptorProto) -> bool:
    """Whether the field is kept out of JSON."""
    return cast(options_pb2.FieldRules, _extension(field.options, options_pb2.field)).grpc_only


def has_http_rule(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    """Whether the method carries a google.api.http rule."""
    return bool(cast(Any, method.options).HasExtension(annotations_pb2.http))


def http_rule(method: descriptor_pb2.MethodDescriptorProto) -> http_pb2.HttpRule:
    """Return the google.api.http rule for reading and changing."""
    return _extension(method.options, annotations_pb2.http)


def http_bindings(method: descriptor_pb2.MethodDescriptorProto) -> list[http_pb2.HttpRule]:
    """Return the rule and its additional bindings; empty without a rule."""
    if not has_http_rule(method):
        return []
    rule = http_rule(method)
    return [rule, *rule.additional_bindings]


def field_bounds(field: descriptor_pb2.FieldDescriptorProto) -> validate_pb2.FieldRules:
    """Return the (buf.validate.field) option, empty when absent."""
    return cast(validate_pb2.FieldRules, _extension(field.options, validate_pb2.field))


def is_idempotent_read(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    """Whether the method declares NO_SIDE_EFFECTS, so that the gateway may repeat it."""
    return method.options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def clear_http_rule(method: descriptor_pb2.MethodDescriptorProto) -> None:
    """Take the google.api.http rule away."""
    cast(Any, method.options).ClearExtension(annotations_pb2.http)


def envoy_files() -> list[descriptor_pb2.FileDescriptorProto]:
    """Return the files Envoy needs whether or not an own file imports them, each after its imports.

    HttpBody is the answer of the twins; without google.rpc.Status and the usual details the transcoder cannot print an
    error that has details, and would answer with an empty body.
    """
    files = []
    for module in (any_pb2, duration_pb2, httpbody_pb2, status_pb2, error_details_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return files
