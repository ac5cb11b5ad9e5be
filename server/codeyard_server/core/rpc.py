"""How an RPC meets its handler: one wrapper around every method of every service.

In this order: the body decodes (400), the caller is known (401), the bounds of the proto hold (400), a repeated
Idempotency-Key gets its first answer, the handler runs, its failure becomes a status. A handler is a method of a
servicer named after the RPC in snake_case: ``async def get_agent(self, request, call) -> Agent``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import grpc
import structlog
from codeyard.http.v1 import options_pb2
from google.api import annotations_pb2, httpbody_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from codeyard_server.core import errors, status, telemetry
from codeyard_server.core.bounds import check_bounds
from codeyard_server.core.call import Call
from codeyard_server.core.caller import Authenticator
from codeyard_server.core.idempotency import Idempotency

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_BODY = "body"

_UPGRADE = ("x-http-code", "101")
"""Initial metadata by which the WebSocket edge knows that a call is accepted; a failed one has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Projection:
    """How one answer of a handler looks to typed clients and as bytes over HTTP.

    Only for methods with an HTTP twin; their handlers return (or yield) a domain object instead of a message.
    """

    typed: Callable[[Any], Sequence[Message]]
    http: Callable[[Any], bytes]
    content_type: str
    documents: Callable[[Any], Iterable[bytes]] | None = None
    """The answer as JSON documents, each one frame, made when it is sent; for methods with a WebSocket."""
    cache: Callable[[Any], dict[str, bytes] | None] | None = None
    """Where what was made of an answer is kept for all who get the same one; None for an answer that is not shared."""


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """What the wrapper needs to know of a method."""

    path: str
    rules: options_pb2.MethodRules
    service: options_pb2.ServiceRules
    unwrap: str
    request_class: type[Message]

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> Method:
        """Read the options of a method."""
        options = descriptor.GetOptions()
        http = options.Extensions[annotations_pb2.http]
        service = descriptor.containing_service
        answers_bytes = descriptor.output_type.full_name == httpbody_pb2.HttpBody.DESCRIPTOR.full_name
        return cls(
            path=f"/{service.full_name}/{descriptor.name}",
            rules=_rules(descriptor),
            service=cast(options_pb2.ServiceRules, service.GetOptions().Extensions[cast(Any, options_pb2.service)]),
            unwrap="" if answers_bytes else http.response_body,
            request_class=message_factory.GetMessageClass(descriptor.input_type),
        )


def _rules(descriptor: MethodDescriptor) -> options_pb2.MethodRules:
    return cast(options_pb2.MethodRules, descriptor.GetOptions().Extensions[cast(Any, options_pb2.method)])


class Malformed:
    """Stands for a request whose bytes do not decode."""


def _deserializer(message: type[Message]) -> Callable[[bytes], Message | Malformed]:
    def deserialize(data: bytes) -> Message | Malformed:
        try:
            return message.FromString(data)
        except (DecodeError, RecursionError):
            return Malformed()

    return deserialize


def _serialize(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def check(request: Message | Malformed) -> None:
    """Check the bounds that the proto gives.

    Raises:
        InvalidArgument: the request does not decode or breaks a bound; details name the fields.
    """
    if isinstance(request, Malformed):
        raise errors.InvalidArgument("The request body cannot be decoded")
    check_bounds(request)


class Runtime:
    """Registers servicers on a server."""

    def __init__(self, server: grpc.aio.Server, authenticator: Authenticator, idempotency: Idempotency) -> None:
        self._server = server
        self._authenticator = authenticator
        self._idempotency = idempotency
        self.paths: list[str] = []
        """Every registered method, twins included."""

    def register(
        self, descriptor: ServiceDescriptor, servicer: object, projections: Mapping[str, Projection] | None = None
    ) -> None:
        """Register a servicer under all methods of its service.

        Raises:
            TypeError: it lacks a method, or a method with an HTTP twin lacks its projection.
        """
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        twins = _json_twins(descriptor)
        for method in descriptor.methods:
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
            implementation = getattr(servicer, name, None)
            if implementation is None:
                raise TypeError(f"{type(servicer).__name__} has no {name}")
            info = Method.of(method)
            projection = (projections or {}).get(method.name)
            needs = info.rules.HasField("sse") or info.rules.websocket or method.name in twins
            if needs and projection is None:
                raise TypeError(f"{descriptor.full_name}.{method.name} has no projection")
            handlers[method.name] = self._handler(method, info, implementation, projection)
            if projection is not None and needs:
                handlers[method.name + "Http"] = self._twin(method, info, implementation, projection)
        generic = grpc.method_handlers_generic_handler(descriptor.full_name, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.paths += [f"/{descriptor.full_name}/{name}" for name in handlers]

    def _handler(
        self, method: MethodDescriptor, info: Method, implementation: Callable[..., Any], projection: Projection | None
    ) -> grpc.RpcMethodHandler[Any, Any]:
        codec = {
            "request_deserializer": _deserializer(info.request_class),
            "response_serializer": _serialize,
        }
        if method.client_streaming and method.server_streaming:
            assert projection is not None
            return grpc.stream_stream_rpc_method_handler(self._bidi(info, implementation, projection.typed), **codec)
        if method.server_streaming:
            typed = projection.typed if projection else lambda message: (message,)
            return grpc.unary_stream_rpc_method_handler(self._stream(info, implementation, typed), **codec)
        answer = None if projection is None else _only(projection.typed)
        return grpc.unary_unary_rpc_method_handler(self._unary(info, implementation, answer), **codec)

    def _twin(
        self, method: MethodDescriptor, info: Method, implementation: Callable[..., Any], projection: Projection
    ) -> grpc.RpcMethodHandler[Any, Any]:
        codec = {
            "request_deserializer": _deserializer(info.request_class),
            "response_serializer": _serialize,
        }

        body = functools.partial(_body, projection)
        if info.rules.websocket:
            if (documents := projection.documents) is None:
                raise TypeError(f"{info.path} has a WebSocket, but its projection makes no documents")
            frames = _frames(documents)
            return grpc.stream_stream_rpc_method_handler(
                self._bidi(info, implementation, frames, opened=(_UPGRADE,)), **codec
            )
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(info, implementation, lambda item: (body(item),)), **codec
            )
        return grpc.unary_unary_rpc_method_handler(self._unary(info, implementation, body), **codec)

    async def _begin(self, info: Method, context: Context) -> Call:
        call = Call(info.path, context.invocation_metadata() or (), context)
        structlog.contextvars.bind_contextvars(request_id=call.request_id, method=info.path)
        if info.rules.auth != options_pb2.AUTH_NONE:
            call.caller = await self._authenticator.authenticate(call.metadata)
        return call

    def _unary(
        self,
        info: Method,
        implementation: Callable[[Any, Call], Awaitable[Any]],
        answer: Callable[[Any], Message | bytes] | None,
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        extra: list[tuple[str, str]] = []
        if info.rules.success_status:
            extra.append(("x-http-code", str(info.rules.success_status)))
        if info.unwrap:
            extra.append(("x-unwrap", info.unwrap))

        async def handle(request: Message | Malformed, context: Context) -> Any:
            started = time.perf_counter()
            try:
                with telemetry.rpc_span(info.path):
                    call = await self._begin(info, context)
                    check(request)
                    call.headers += extra
                    key = call.metadata.get("idempotency-key") if info.rules.idempotency_key else None
                    if key is None:
                        result = await implementation(request, call)
                    else:
                        result = await self._idempotency.run(call, key, cast(Message, request), implementation)
                    if answer is not None:
                        result = answer(result)
                    if call.headers:
                        await context.send_initial_metadata(tuple(call.headers))
                telemetry.rpc_done(info.path, "OK", started)
                return result
            except BaseException as error:
                await status.abort(context, info, error, started)
                raise

        return handle

    def _stream(
        self,
        info: Method,
        implementation: Callable[[Any, Call], AsyncIterator[Any]],
        project: Callable[[Any], Sequence[Message | bytes]],
    ) -> Callable[[Any, Context], Awaitable[None]]:
        async def handle(request: Message | Malformed, context: Context) -> None:
            started = time.perf_counter()
            try:
                call = await self._begin(info, context)
                check(request)
                iterator = implementation(request, call)
                try:
                    async for item in iterator:
                        if call.headers:
                            await context.send_initial_metadata(tuple(call.headers))
                            call.headers = []
                        for message in project(item):
                            await context.write(message)
                finally:
                    await cast(Any, iterator).aclose()
                telemetry.rpc_done(info.path, "OK", started)
            except BaseException as error:
                await status.abort(context, info, error, started)
                raise

        return handle

    def _bidi(
        self,
        info: Method,
        implementation: Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]],
        project: Callable[[Any], Iterable[Message]],
        *,
        opened: Sequence[tuple[str, str]] = (),
    ) -> Callable[[AsyncIterator[Any], Context], Awaitable[None]]:
        async def checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for request in requests:
                check(request)
                yield request

        async def handle(requests: AsyncIterator[Any], context: Context) -> None:
            started = time.perf_counter()
            try:
                call = await self._begin(info, context)
                iterator = implementation(checked(requests), call)
                accepted = False
                try:
                    async for item in iterator:
                        if not accepted:
                            # Also when the first item is empty: who opens a stream must not wait for an event to know.
                            await context.send_initial_metadata((*opened, *call.headers))
                            accepted = True
                        for message in project(item):
                            await context.write(message)
                finally:
                    await cast(Any, iterator).aclose()
                telemetry.rpc_done(info.path, "OK", started)
            except BaseException as error:
                await status.abort(context, info, error, started)
                raise

        return handle


def _body(projection: Projection, item: Any) -> Message | bytes:
    """Return an answer as HttpBody; where it can be shared, as the bytes of one, made for all who get it."""
    cache = projection.cache(item) if projection.cache else None
    if cache is not None and _BODY in cache:
        return cache[_BODY]
    message: Message = httpbody_pb2.HttpBody(content_type=projection.content_type, data=projection.http(item))
    if cache is None:
        return message
    data: bytes = message.SerializeToString()
    cache[_BODY] = data
    return data


def _frames(documents: Callable[[Any], Iterable[bytes]]) -> Callable[[Any], Iterable[Message]]:
    def project(item: Any) -> Iterable[Message]:
        return (httpbody_pb2.HttpBody(content_type="application/json", data=document) for document in documents(item))

    return project


def _only(typed: Callable[[Any], Sequence[Message]]) -> Callable[[Any], Message]:
    def answer(item: Any) -> Message:
        (message,) = typed(item)
        return message

    return answer


def _json_twins(descriptor: ServiceDescriptor) -> set[str]:
    """Return the names of the methods that answer as JSON in the place of a stream."""
    rules = [_rules(method) for method in descriptor.methods]
    return {rule.sse.json_method for rule in rules if rule.sse.json_method}
