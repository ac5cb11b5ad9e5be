"""The OpenAPI 3.1 document of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from codeyard_gateway.compiler import openapi_parts as parts
from codeyard_gateway.compiler.bounds import Schema
from codeyard_gateway.compiler.examples import ExampleBuilder
from codeyard_gateway.compiler.index import EMPTY, HTTP_BODY, Index, Message, walk_fields
from codeyard_gateway.compiler.model import Api, Casing, Route, Rpc, WebSocketRoute
from codeyard_gateway.compiler.schemas import Direction, SchemaBuilder

_REASONS = "codeyard.errors.v1.Reason"


def openapi_document(index: Index, api: Api, version: str) -> dict[str, Any]:
    """Return the document. ``version`` is the version of the installation."""
    document = _Document(index, api)
    paths = document.paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Codeyard API",
            "version": version,
            "summary": "A self-hosted yard where coding agents work.",
            "description": parts.DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": document.tags(),
        "paths": paths,
        "components": {
            "schemas": dict(sorted(document.schemas.components.items())) | parts.error_schemas(document.reasons()),
            "responses": parts.error_responses(),
            "parameters": parts.PARAMETERS,
            "headers": parts.HEADERS,
            "securitySchemes": parts.SECURITY_SCHEMES,
        },
    }


class _Document:
    """Builds the operations and, through them, the component schemas."""

    def __init__(self, index: Index, api: Api) -> None:
        self.index = index
        self.api = api
        answered, casings = _usage(index, api)
        self.schemas = SchemaBuilder(index, answered, {name for name, found in casings.items() if len(found) > 1})
        self.examples = ExampleBuilder(self.schemas.components)
        self._operation_ids: set[str] = set()

    def tags(self) -> list[dict[str, str]]:
        """Return the tags with the comments of their services."""
        found: dict[str, str] = {}
        for service in self.api.services:
            if service.tag:
                found[service.tag] = " ".join(filter(None, (found.get(service.tag), service.comment)))
        return [{"name": tag, "description": text} for tag, text in sorted(found.items())]

    def reasons(self) -> list[str]:
        """Return the public reasons of failures, without their prefix."""
        reasons = self.index.enums.get(_REASONS)
        return [value.name.removeprefix("REASON_") for value in reasons.value if value.number] if reasons else []

    def paths(self) -> dict[str, Any]:
        """Return the path items. A ``**`` parameter matches nothing as well: its path is listed with and without it."""
        paths: dict[str, Any] = {}
        for route in self.api.routes:
            operation = self.operation(route)
            paths.setdefault(route.template.openapi, {})[route.verb.lower()] = operation
            if route.template.segments[-1].deep:
                name = str(route.template.segments[-1].parameter)
                short = route.template.openapi.removesuffix(f"{{{name}}}")
                listed = [p for p in operation.get("parameters", []) if p.get("name") != name]
                other = {key: value for key, value in operation.items() if key != "parameters"}
                other |= {"operationId": f"{operation['operationId']}Root"} | ({"parameters": listed} if listed else {})
                paths.setdefault(short, {})[route.verb.lower()] = other
        for socket in self.api.websockets:
            paths.setdefault(socket.template.openapi, {}).setdefault("get", self.socket_operation(socket))
        return dict(sorted(paths.items()))

    def operation(self, route: Route) -> dict[str, Any]:
        """Return the operation of a route."""
        operation = self._head(route.rpc, route.tag)
        parameters = [*self._path_parameters(route), *self._query_parameters(route)]
        if route.idempotency_key:
            parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
        if route.sse:
            parameters.append({"$ref": "#/components/parameters/LastEventId"})
        if parameters:
            operation["parameters"] = parameters
        if route.takes_body:
            operation["requestBody"] = self._request_body(route)
        operation["responses"] = {
            str(route.success_status): self._answer(route),
            **parts.error_references(_statuses(route), route.error_shape),
        }
        operation["security"] = parts.security(route.rpc.authenticated)
        return operation

    def socket_operation(self, socket: WebSocketRoute) -> dict[str, Any]:
        """Return the operation that opens a WebSocket; OpenAPI cannot describe its frames."""
        operation = self._head(socket.rpc, socket.tag)
        operation["description"] = "\n\n".join(filter(None, (operation.get("description"), parts.WEBSOCKET)))
        operation["parameters"] = [parts.plain_path_parameter(name) for name in socket.template.parameters]
        statuses = {400, 403, 404, 500, 503, *socket.error_statuses} | ({401} if socket.rpc.authenticated else set())
        upgraded = {"description": "The connection is a WebSocket now.", "headers": parts.ANSWER_HEADERS}
        operation["responses"] = {"101": upgraded, **parts.error_references(statuses, socket.error_shape)}
        operation["security"] = parts.security(socket.rpc.authenticated)
        operation["x-websocket"] = True
        return operation

    def _head(self, rpc: Rpc, tag: str) -> dict[str, Any]:
        comment = next(
            (
                e.method_comments[rpc.name]
                for e in self.index.services
                if e.name == rpc.service and rpc.name in e.method_comments
            ),
            "",
        )
        operation_id, number = rpc.name[:1].lower() + rpc.name[1:], 2
        while operation_id in self._operation_ids:
            operation_id, number = f"{rpc.name[:1].lower()}{rpc.name[1:]}{number}", number + 1
        self._operation_ids.add(operation_id)
        summary = re.split(r"\.(?:\s|$)", comment.replace("\n", " "), maxsplit=1)[0]
        head: dict[str, Any] = {"operationId": operation_id, "tags": [tag], "summary": summary or rpc.name}
        if comment:
            head["description"] = comment
        head["x-grpc-method"] = f"{rpc.service}/{rpc.name}"
        return head

    def _path_parameters(self, route: Route) -> Iterable[dict[str, Any]]:
        message = self.index.messages[route.rpc.request]
        for name in route.template.parameters:
            field = message.known_field(name)
            schema = self.schemas.parameter(message, field, route.casing) or {"type": "string"}
            described = message.field_comments.get(name, "")
            yield {"name": name, "in": "path", "required": True, "schema": schema, "description": described}

    def _query_parameters(self, route: Route) -> list[dict[str, Any]]:
        if route.body == "*":
            return []
        found: dict[str, dict[str, Any]] = {}
        for rpc in filter(None, (route.rpc, route.json_rpc)):
            message = self.index.messages[rpc.request]
            for field in message.json_fields():
                name = message.json_name(field, route.casing)
                if field.name in (*route.template.parameters, route.body) or name in found or rpc.request == HTTP_BODY:
                    continue
                schema = self.schemas.parameter(message, field, route.casing)
                if schema is not None:
                    described = message.field_comments.get(field.name, "")
                    found[name] = {"name": name, "in": "query", "schema": schema, "description": described}
        return list(found.values())

    def _request_body(self, route: Route) -> dict[str, Any]:
        if route.raw_request:
            return {"required": False, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
        message = self.index.messages[route.rpc.request]
        if route.body == "*":
            schema = self._whole_body(message, route)
            required = bool(self._resolve(schema).get("required"))
        else:
            field = message.known_field(route.body)
            schema, required = self.schemas.field(message, field, route.casing, Direction.REQUEST), False
        content: dict[str, Any] = {"schema": schema}
        if route.request_example:
            content["example"] = json.loads(route.request_example)
        elif self._resolve(schema).get("properties"):
            content["example"] = self.examples.example(schema)
        return {"required": required, "content": {"application/json": content}}

    def _whole_body(self, message: Message, route: Route) -> Schema:
        return self.schemas.reference(
            message.name, route.casing, Direction.REQUEST, frozenset(route.template.parameters)
        )

    def _resolve(self, schema: Schema) -> Schema:
        return self.schemas.components[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def _answer(self, route: Route) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "description": parts.success_text(route.success_status),
            "headers": parts.ANSWER_HEADERS,
        }
        if route.success_status == 204 or route.success_status >= 300:
            if route.success_status >= 300:
                answer["headers"] = parts.ANSWER_HEADERS | {"Location": {"$ref": "#/components/headers/Location"}}
            return answer
        answer["content"] = self._answer_content(route)
        if route.sse:
            answer["description"] = "The stream of events" + (", or one JSON document." if route.json_rpc else ".")
        return answer

    def _answer_content(self, route: Route) -> dict[str, Any]:
        if route.sse:
            content: dict[str, Any] = {
                "text/event-stream": {
                    "schema": {"type": "string", "description": parts.SSE},
                    "example": parts.SSE_EXAMPLE,
                }
            }
            if route.json_rpc:
                content["application/json"] = self._json(route.json_rpc.response, route)
            return content
        if route.raw_response:
            kind = route.content_type or "application/octet-stream"
            return {kind: {"schema": {} if kind == "application/json" else {"type": "string", "format": "binary"}}}
        return {"application/json": self._json(route.rpc.response, route)}

    def _json(self, name: str, route: Route) -> dict[str, Any]:
        message = self.index.messages[name]
        if route.unwrap is not None and name == route.rpc.response:
            schema = self.schemas.field(message, message.json_fields()[0], route.casing, Direction.RESPONSE)
        elif name == EMPTY:
            return {"schema": {"type": "object"}, "example": {}}
        else:
            schema = self.schemas.reference(name, route.casing, Direction.RESPONSE)
        given = json.loads(route.response_example) if route.response_example else None
        return {"schema": schema, "example": self.examples.example(schema) if given is None else given}


def _statuses(route: Route) -> set[int]:
    """Return the error statuses a caller may meet on a route."""
    found = {400, 405, 500, 503, *route.error_statuses}
    if route.rpc.authenticated:
        found.add(401)
    if route.template.parameters:
        found.add(404)
    if route.verb not in ("GET", "HEAD"):
        found.add(403)
    if route.takes_body:
        found |= {413, 415}
    if not route.rpc.streaming.server_streams and not route.rpc.streaming.client_streams:
        found.add(504)
    return found


def _usage(index: Index, api: Api) -> tuple[set[str], dict[str, set[Casing]]]:
    """Return the messages that occur in answers, and the casings each message is printed in."""
    answered: set[str] = set()
    casings: dict[str, set[Casing]] = {}
    for route in api.routes:
        for rpc in filter(None, (route.rpc, route.json_rpc)):
            for root in (rpc.request, rpc.response):
                if root.startswith("google."):
                    continue
                names = {root, *(message.name for message, _ in walk_fields(index, root))}
                for name in names:
                    casings.setdefault(name, set()).add(route.casing)
                if root == rpc.response:
                    answered |= names
    return answered, casings
