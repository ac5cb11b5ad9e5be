"""The vendor's side of a driver's connection, played back from bytes: what no well-behaved model server would send."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from codeyard_server.models.ports import GenerationRequest, ModelDriver, Reply, TextDelta


class Wire(httpx2.AsyncBaseTransport):
    """Answers every request alike and keeps the requests.

    Args:
        chunks: of the body.
        status: of the answer.
        headers: of the answer; a stream of events unless they say otherwise.
        failure: raised after the last chunk, as a broken connection is.
        refusal: raised in place of an answer.
    """

    def __init__(
        self,
        *chunks: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        failure: Exception | None = None,
        refusal: Exception | None = None,
    ) -> None:
        self.requests: list[httpx2.Request] = []
        self.closed_streams = 0
        self._chunks = chunks
        self._status = status
        self._headers = {"content-type": "text/event-stream", **(headers or {})}
        self._failure = failure
        self._refusal = refusal

    @property
    def body(self) -> dict[str, Any]:
        """The last request's body."""
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Play the answer."""
        await request.aread()
        self.requests.append(request)
        if self._refusal is not None:
            raise self._refusal
        return httpx2.Response(self._status, headers=self._headers, stream=_Body(self))

    async def play(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        for chunk in self._chunks:
            yield chunk
        if self._failure is not None:
            raise self._failure


class _Body(httpx2.AsyncByteStream):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._wire.play()

    async def aclose(self) -> None:
        self._wire.closed_streams += 1


def openai_events(*chunks: Mapping[str, Any], done: bool = True) -> bytes:
    """Return a body of OpenAI's stream: one event for each chunk and the closing mark."""
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n" if done else ""]).encode()


def anthropic_events(*events: Mapping[str, Any]) -> bytes:
    """Return a body of Anthropic's stream."""
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


async def run(driver: ModelDriver, request: GenerationRequest) -> tuple[list[str], Reply]:
    """Return the deltas and the reply of one call, and close the driver."""
    try:
        items = [item async for item in driver.generate(request)]
    finally:
        await driver.aclose()
    reply = items.pop()
    assert isinstance(reply, Reply)
    deltas = [item.text for item in items if isinstance(item, TextDelta)]
    assert len(deltas) == len(items)
    return deltas, reply
