"""Read a descriptor set into the model, and refuse protos that the gateway could not serve."""

from __future__ import annotations

import dataclasses

from codeyard.http.v1 import options_pb2
from google.protobuf import descriptor_pb2

from codeyard_gateway.compiler import checks, options
from codeyard_gateway.compiler.index import HTTP_BODY, Index, ServiceEntry
from codeyard_gateway.compiler.model import (
    DEFAULT_MAX_BODY_BYTES,
    JSON_PREFIX,
    Api,
    Casing,
    CompileError,
    ErrorShape,
    PathTemplate,
    Route,
    Rpc,
    Service,
    Streaming,
    WebSocketRoute,
)
from codeyard_gateway.compiler.template import parse_template

_CASINGS = {options_pb2.CASING_SNAKE: Casing.SNAKE, options_pb2.CASING_CAMEL: Casing.CAMEL}
_SHAPES = {options_pb2.ERROR_SHAPE_FLAT: ErrorShape.FLAT, options_pb2.ERROR_SHAPE_NESTED: ErrorShape.NESTED}
_VERBS = ("get", "put", "post", "delete", "patch")


def read_image(image: bytes) -> tuple[Index, Api]:
    """Parse a serialised FileDescriptorSet (with imports and source info) into the model.

    Raises CompileError that names every mistake with file, method and reason.
    """
    index = Index(descriptor_pb2.FileDescriptorSet.FromString(image))
    reader = _Reader(index)
    for entry in sorted(index.services, key=lambda entry: entry.name):
        reader.read_service(entry)
    reader.problems += checks.duplicate_routes(reader.routes, reader.websockets, reader.files)
    if reader.problems:
        raise CompileError(sorted(reader.problems))
    routes = sorted(reader.routes, key=lambda route: (route.template.text, route.verb))
    sockets = sorted(reader.websockets, key=lambda route: route.template.text)
    return index, Api(tuple(reader.services), tuple(reader.rpcs), tuple(routes), tuple(sockets))


def twin_name(method: str) -> str:
    """Return the name of a method's HTTP twin."""
    return f"{method}Http"


def _streaming(method: descriptor_pb2.MethodDescriptorProto) -> Streaming:
    if method.client_streaming:
        return Streaming.BIDI if method.server_streaming else Streaming.CLIENT
    return Streaming.SERVER if method.server_streaming else Streaming.UNARY


class _Reader:
    """Collects the model and the problems while it walks the services."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.problems: list[str] = []
        self.services: list[Service] = []
        self.rpcs: list[Rpc] = []
        self.routes: list[Route] = []
        self.websockets: list[WebSocketRoute] = []
        self.files = {entry.name: entry.file for entry in index.services}

    def read_service(self, entry: ServiceEntry) -> None:
        """Read one service with its methods, twins and routes."""
        rules = options.service_rules(entry.proto)
        if self.problem(checks.service_options(entry)):
            return
        service = Service(
            name=entry.name,
            casing=_CASINGS.get(rules.casing, Casing.SNAKE),
            error_shape=_SHAPES.get(rules.error_shape, ErrorShape.FLAT),
            tag=rules.tag,
            comment=entry.comment,
        )
        self.services.append(service)
        rpcs = {method.name: self.rpc(entry, method) for method in entry.proto.method}
        self.rpcs += rpcs.values()
        for method in entry.proto.method:
            found = checks.method_options(self.index, entry, method)
            if not self.problem(found):
                self.read_method(service, entry, method, rpcs)

    def problem(self, found: list[str]) -> bool:
        """Note problems; return whether there are any."""
        self.problems += found
        return bool(found)

    def rpc(self, entry: ServiceEntry, method: descriptor_pb2.MethodDescriptorProto) -> Rpc:
        """Return the model of a declared method."""
        return Rpc(
            service=entry.name,
            name=method.name,
            request=method.input_type.removeprefix("."),
            response=method.output_type.removeprefix("."),
            streaming=_streaming(method),
            authenticated=options.method_rules(method).auth == options_pb2.AUTH_REQUIRED,
            no_side_effects=options.is_idempotent_read(method),
        )

    def twin(self, rpc: Rpc) -> Rpc:
        """Return the HTTP twin of a method, and add it to the model once."""
        twin = dataclasses.replace(rpc, name=twin_name(rpc.name), response=HTTP_BODY, twin_of=rpc.name)
        if twin not in self.rpcs:
            self.rpcs.append(twin)
        return twin

    def read_method(
        self,
        service: Service,
        entry: ServiceEntry,
        method: descriptor_pb2.MethodDescriptorProto,
        rpcs: dict[str, Rpc],
    ) -> None:
        """Add the routes of a method whose options are right by themselves."""
        where = f"{entry.file}: {entry.name}.{method.name}"
        rules = options.method_rules(method)
        rpc = rpcs[method.name]
        for binding in options.http_bindings(method):
            verb = str(binding.WhichOneof("pattern"))
            if verb not in _VERBS:
                self.problems.append(f'{where}: the verb "{verb}" is not served')
                continue
            template = self.template(where, str(getattr(binding, verb)))
            if template is None:
                continue
            json_rpc = rpcs.get(rules.sse.json_method)
            found = checks.binding(self.index, where, rpc, json_rpc, verb, template, binding)
            if not self.problem(found):
                self.routes.append(self.route(service, rules, rpc, json_rpc, verb.upper(), template, binding))
        if rules.websocket:
            template = self.template(where, rules.websocket)
            if template is not None and not self.problem(checks.websocket(self.index, where, rpc, template)):
                errors = tuple(rules.error_statuses)
                self.websockets.append(
                    WebSocketRoute(template, rpc, service.casing, service.error_shape, service.tag, errors)
                )

    def template(self, where: str, text: str) -> PathTemplate | None:
        """Parse a path; a mistake in it becomes a problem."""
        try:
            template = parse_template(text)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None
        if text.startswith(JSON_PREFIX):
            self.problems.append(f'{where}: paths below "{JSON_PREFIX}" belong to the gateway')
        return template

    def route(
        self,
        service: Service,
        rules: options_pb2.MethodRules,
        rpc: Rpc,
        json_rpc: Rpc | None,
        verb: str,
        template: PathTemplate,
        binding: object,
    ) -> Route:
        """Return the route of one binding that passed the checks."""
        body = str(getattr(binding, "body", ""))
        response_body = str(getattr(binding, "response_body", ""))
        answer = self.index.resolve(rpc.response, response_body) if response_body else None
        raw_answer = rpc.response == HTTP_BODY or (answer is not None and answer.type_name == f".{HTTP_BODY}")
        sse = rules.HasField("sse")
        message = self.index.messages[rpc.response]
        return Route(
            verb=verb,
            template=template,
            rpc=rpc,
            target=self.twin(rpc) if sse else rpc,
            casing=service.casing,
            error_shape=service.error_shape,
            tag=service.tag,
            success_status=rules.success_status or 200,
            body=body,
            unwrap=message.json_name(answer, service.casing) if answer and not raw_answer else None,
            max_body_bytes=rules.max_body_bytes or DEFAULT_MAX_BODY_BYTES,
            raw_request=checks.raw_request(self.index, rpc, body),
            raw_response=raw_answer,
            content_type="text/event-stream" if sse else rules.response_content_type or None,
            sse=sse,
            json_rpc=json_rpc,
            json_target=self.twin(json_rpc) if json_rpc else None,
            error_statuses=tuple(rules.error_statuses),
            idempotency_key=rules.idempotency_key,
            request_example=rules.request_example,
            response_example=rules.response_example,
        )
