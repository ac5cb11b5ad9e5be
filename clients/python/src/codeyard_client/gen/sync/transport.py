# Written by tools/gen_sdk.py from ../../aio/transport.py: change that one.
"""How calls travel: one gRPC connection, a token, repeated attempts where the API says that they are harmless."""

from __future__ import annotations

import uuid
from time import monotonic, sleep
from typing import Any

import grpc

from codeyard_client._backoff import Backoff
from codeyard_client._channel import Address, SyncChannel, SyncStream, close_channel, open_channel
from codeyard_client._method import Q, R, Stream, Unary
from codeyard_client.errors import Cancelled, Unavailable, from_rpc


class Transport:
    """Sends the calls of one client."""

    def __init__(
        self, address: Address, token: str | None, *, timeout: float, retry_seconds: float, reconnect_seconds: float
    ) -> None:
        self.address = address
        self.timeout = timeout
        self.retry_seconds = retry_seconds
        self.reconnect_seconds = reconnect_seconds
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel: SyncChannel | None = None
        self._closed = False

    def call(self, method: Unary[Q, R], request: Q, *, idempotency_key: str | None = None) -> R:
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
                answer: R = send(request, timeout=deadline - monotonic(), metadata=metadata)
                return answer
            except grpc.RpcError as error:
                failure = from_rpc(error)
                if not (isinstance(failure, Unavailable) and (method.repeatable or method.keyed)):
                    raise failure from error
            sleep(backoff.pause(failure))

    def stream(self, method: Stream[Q, R], request: Q) -> SyncStream[R | None]:
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
            if answers.initial_metadata():
                yield None
            for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        finally:
            answers.cancel()

    def close(self) -> None:
        """Close the connection; calls that are under way end."""
        self._closed = True
        if self._channel is not None:
            close_channel(self._channel)

    def _open(self) -> SyncChannel:
        if self._closed:
            raise Cancelled("The client is closed")
        if self._channel is None:
            # Not before the first call: an asynchronous channel belongs to the event loop that runs then.
            self._channel = open_channel(self.address)
        return self._channel
