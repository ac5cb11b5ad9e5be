"""Native gRPC for tests: calls any RPC of the route table by its path, with messages made from the descriptors."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import codeyard
import grpc
from google.api import httpbody_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tests.support.routes import RPCS
from tests.support.yard import Yard

for _module in pkgutil.walk_packages(codeyard.__path__, "codeyard."):
    if _module.name.endswith("_pb2"):
        importlib.import_module(_module.name)
assert httpbody_pb2.DESCRIPTOR  # the answer of the HTTP twins


def message_class(name: str) -> type[Message]:
    """Return the class of a message by its full name."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


class Grpc:
    """Calls the native gRPC face of a yard."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Mapping[str, str]) -> None:
        self._channel = channel
        self._metadata = tuple(metadata.items())

    async def call(self, rpc: str, fields: Mapping[str, Any] | None = None, **metadata: str) -> Any:
        """Call a unary RPC with the request that the JSON members say, and return its answer.

        Raises:
            grpc.aio.AioRpcError: it failed; see :func:`reason`.
        """
        invoke = self._channel.unary_unary(
            rpc, request_serializer=_serialize, response_deserializer=message_class(RPCS[rpc]["response"]).FromString
        )
        return await invoke(_request(rpc, fields), metadata=(*self._metadata, *metadata.items()), timeout=30)

    def stream(self, rpc: str, fields: Mapping[str, Any] | None = None, **metadata: str) -> Any:
        """Start a server-streaming RPC and return its call, which is an asynchronous iterator."""
        invoke = self._channel.unary_stream(
            rpc, request_serializer=_serialize, response_deserializer=message_class(RPCS[rpc]["response"]).FromString
        )
        return invoke(_request(rpc, fields), metadata=(*self._metadata, *metadata.items()), timeout=60)


@contextlib.asynccontextmanager
async def native(yard: Yard, metadata: Mapping[str, str] | None = None) -> AsyncIterator[Grpc]:
    """Open a channel; by default with the credential of the yard's token."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{yard.port}") as channel:
        yield Grpc(channel, yard.headers if metadata is None else metadata)


def first_answer(yard: Yard, rpc: str, fields: Mapping[str, Any], metadata: Mapping[str, str]) -> Any:
    """Start a bidirectional RPC with one request, return its first answer and cancel it. Blocks.

    In threads, because a coroutine that writes to a call which has just been refused learns of its own failed write
    instead of the refusal.

    Raises:
        grpc.RpcError: it failed; see :func:`reason`.
    """
    done = threading.Event()

    def requests() -> Iterator[Message]:
        yield _request(rpc, fields)
        done.wait()

    with grpc.insecure_channel(f"127.0.0.1:{yard.port}") as channel:
        invoke = channel.stream_stream(
            rpc, request_serializer=_serialize, response_deserializer=message_class(RPCS[rpc]["response"]).FromString
        )
        call: Any = invoke(requests(), metadata=tuple(metadata.items()), timeout=30)
        try:
            return next(call)
        finally:
            done.set()
            call.cancel()


def reason(error: Any) -> str:
    """Return the reason of a failure from its ErrorInfo; "" when it has none."""
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(bytes(value)).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""


def _request(rpc: str, fields: Mapping[str, Any] | None) -> Message:
    return json_format.ParseDict(dict(fields or {}), message_class(RPCS[rpc]["request"])())


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
