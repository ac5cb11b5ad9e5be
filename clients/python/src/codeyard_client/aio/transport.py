"""How calls travel: one gRPC connection, a token, repeated attempts where the API says that they are harmless."""

from __future__ import annotations

import uuid
from asyncio import sleep
from time import monotonic
from typing import Any

import grpc

from codeyard_client._backoff import Backoff
from codeyard_client._channel import Address, AsyncChannel, AsyncStream, close_async_channel, open_async_channel
from codeyard_client._method import Q, R, Stream, Unary
from codeyard_client.errors import Cancelled, Unavailable, from_rpc


class AsyncTransport:
    """Sends the calls of one client."""

    def __init__(
        self, address: Address, token: str | None, *, timeout: float, retry_seconds: float, reconnect_seconds: float
    ) -> None:
        self.address = address
        self.timeout = timeout
        self.retry_seconds = retry_seconds
        self.reconnect_seconds = reconnect_seconds
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel: AsyncChannel | None = None
        self._closed = False

    async def call(self, method: Unary[Q, R], request: Q, *, idempotency_key: str | None = None) -> R:
        """Send a request and return the answer.

        A method that is repeatable or keyed is sent again while the yard is unavailable, for ``retry_seconds`` at most.

        Raises:
            CodeyardError: the call failed.
        """
        metadata = self._metadata
        if method.keyed:
            # The same for all attempts: the yard creates once.
            metadata = (*metadata, ("idempotency-key", idempotency_key or str(uuid.uuid4())))
        backoff, deadline = Backoff(self.retry_seconds), monotonic() + self.timeout
        while True:
            send = self._open().unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            try:
                answer: R = await send(request, timeout=deadline - monotonic(), metadata=metadata)
                return answer
            except grpc.RpcError as error:
                failure = from_rpc(error)
                if not (isinstance(failure, Unavailable) and (method.repeatable or method.keyed)):
                    raise failure from error
            await sleep(backoff.pause(failure))

    async def stream(self, method: Stream[Q, R], request: Q) -> AsyncStream[R | None]:
        """Yield None once the yard has taken the call on, then the answers, until the connection ends.

        Raises:
            CodeyardError: it did not end by itself.
        """
        send = self._open().unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        # Any: what the two kinds of calls share is in the types of only one.
        answers: Any = send(request, metadata=self._metadata)
        try:
            if await answers.initial_metadata():
                yield None
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        finally:
            answers.cancel()

    async def close(self) -> None:
        """Close the connection; calls that are under way end."""
        self._closed = True
        if self._channel is not None:
            await close_async_channel(self._channel)

    def _open(self) -> AsyncChannel:
        if self._closed:
            raise Cancelled("The client is closed")
        if self._channel is None:
            # Not before the first call: an asynchronous channel belongs to the event loop that runs then.
            self._channel = open_async_channel(self.address)
        return self._channel
