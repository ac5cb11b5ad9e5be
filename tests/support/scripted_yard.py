"""A gRPC server in this process that answers as a test tells it, to try what a real yard does only when it breaks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Message]]
Stream = Callable[[Any, Context], AsyncIterator[Message]]


async def fail(context: Context, code: grpc.StatusCode, reason: str, text: str = "no", **metadata: str) -> None:
    """End a call as the server does: a status with the reason in its details, and response metadata."""
    status = status_pb2.Status(code=code.value[0], message=text)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="codeyard"))
    trailing = [("grpc-status-details-bin", status.SerializeToString()), *metadata.items()]
    await context.abort(code, text, tuple(trailing))


class ScriptedYard(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its stubs
    """Answers the methods that are given to :meth:`unary` and :meth:`stream`; ``url`` is where."""

    url: str

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def unary(self, method: str, request: type[Message], handler: Unary) -> None:
        """Answer a unary method, named ``package.Service/Method``."""

        async def call(message: Any, context: Context) -> Message:
            return await handler(message, context)

        self._handlers[f"/{method}"] = grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=request.FromString, response_serializer=_serialize
        )

    def stream(self, method: str, request: type[Message], handler: Stream) -> None:
        """Answer a server-streaming method."""
        self._handlers[f"/{method}"] = grpc.unary_stream_rpc_method_handler(
            handler, request_deserializer=request.FromString, response_serializer=_serialize
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call."""
        return self._handlers.get(handler_call_details.method)


@contextlib.asynccontextmanager
async def scripted_yard() -> AsyncIterator[ScriptedYard]:
    """Run one on a free port of the loopback."""
    yard, server = ScriptedYard(), grpc.aio.server()
    server.add_generic_rpc_handlers((yard,))
    yard.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield yard
    finally:
        await server.stop(None)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
