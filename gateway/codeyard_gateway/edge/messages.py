"""From a socket's path, query and frames to request messages, as the descriptors say."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message

from codeyard_gateway.compiler.descriptors import descriptor_set
from codeyard_gateway.compiler.index import Index
from codeyard_gateway.compiler.model import PATH_FIELD, Api, Casing, WebSocketRoute

START = "start"
"""Field of a request message that takes the path and query parameters, where there is one of this name."""
_LARGE_BYTES = 16 * 1024
_BOOLEANS: Mapping[str, Any] = {"true": True, "false": False}


class Malformed(ValueError):
    """A frame, path or query does not make a request message. The text is for the client."""


def descriptor_pools(index: Index, api: Api) -> dict[Casing, descriptor_pool.DescriptorPool]:
    """Return the descriptors, as the gateway's transcoders have them, for each casing that a socket uses."""
    pools = {}
    for casing in {route.casing for route in api.websockets}:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(index, api, casing)).file:
            pool.Add(file)
        pools[casing] = pool
    return pools


class Requests:
    """Makes the request messages of one method.

    Raises ValueError if the first message has no place for a path parameter.
    """

    def __init__(
        self, route: WebSocketRoute, pool: descriptor_pool.DescriptorPool, executor: concurrent.futures.Executor
    ) -> None:
        descriptor = pool.FindMessageTypeByName(route.rpc.request)
        self._pool = pool
        self._executor = executor
        self._class: type[Message] = message_factory.GetMessageClass(descriptor)
        start = descriptor.fields_by_name.get(START)
        opening = start.message_type if start is not None else None
        self._in_start = opening is not None
        self._fields = _scalars(opening or descriptor)
        for name in route.template.parameters:
            if name not in self._fields:
                raise ValueError(f'{route.rpc.path}: no field of the first message takes the path parameter "{name}"')

    def first(self, path: Mapping[str, str], query: list[tuple[str, str]]) -> bytes:
        """Return the first message, which the path and the query make.

        Raises:
            Malformed: a query parameter is unknown, repeated, or already in the path; or a value has the wrong type.
        """
        values: dict[str, Any] = {}
        # The path comes first, so that the query cannot take its fields.
        for name, value in [*path.items(), *query]:
            field = self._fields.get(name)
            if field is None or field.json_name in values:
                raise Malformed(f'"{name[:100]}" is no query parameter here, or is there twice')
            values[field.json_name] = _BOOLEANS.get(value, value) if field.type == FieldDescriptor.TYPE_BOOL else value
        return self._message({START: values} if self._in_start else values)

    async def frame(self, text: bytes) -> bytes:
        """Return the message of a frame; members that it does not have are passed over, as in every JSON request.

        Raises:
            Malformed: it is not the JSON of a request message.
        """
        if len(text) <= _LARGE_BYTES:
            return self._parse(text)
        # Two megabytes of small values take seconds, which the other clients of this process must not wait for.
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._parse, text)

    def _parse(self, text: bytes) -> bytes:
        if not text.lstrip(b" \t\r\n").startswith(b"{"):
            raise Malformed("The frame is not a JSON object")
        try:
            message = json_format.Parse(text, self._class(), ignore_unknown_fields=True, descriptor_pool=self._pool)
            return message.SerializeToString()
        except (json_format.ParseError, EncodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"The frame cannot be read: {error}") from error

    def _message(self, values: dict[str, Any]) -> bytes:
        try:
            return json_format.ParseDict(values, self._class(), descriptor_pool=self._pool).SerializeToString()
        except json_format.ParseError as error:
            raise Malformed("A parameter of the path or the query has the wrong type") from error


def _scalars(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Return the fields a parameter can fill, by proto name and by JSON name."""
    fields: dict[str, FieldDescriptor] = {}
    for field in descriptor.fields:
        if field.message_type is None and not field.is_repeated:
            fields[field.json_name] = fields[field.name.removeprefix(PATH_FIELD)] = field
    return fields
