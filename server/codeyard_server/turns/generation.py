"""One model call of a turn: attempts with back-off, live deltas, the GenAI span."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
import uuid
from collections.abc import Iterator
from typing import Any

import stamina
import structlog
from opentelemetry import trace

from codeyard_server.core import canonical, telemetry
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.record import Record
from codeyard_server.models import ResolvedModel
from codeyard_server.models.ports import GenerationRequest, ModelError, Reply, TextDelta
from codeyard_server.turns.payloads import Generation
from codeyard_server.turns.ports import Drivers
from codeyard_server.turns.settings import TurnSettings

log = structlog.get_logger(__name__)

DELTA_SECONDS = 0.03
_ATTEMPTS_PER_GENERATION = 16


class Deltas:
    """Live pieces of one attempt, sent in batches. ``offset`` counts the code points sent before."""

    def __init__(
        self, fanout: FanOut, session_id: uuid.UUID, turn_id: uuid.UUID, message_id: uuid.UUID, attempt: int
    ) -> None:
        self._fanout = fanout
        self._session_id = session_id
        self._turn_id = turn_id
        self._message_id = message_id
        self._attempt = attempt
        self._offset = 0
        self._text: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """Take a piece; it goes out within 30 ms."""
        self._text.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELTA_SECONDS, self.flush)

    def flush(self) -> None:
        """Send what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text = "".join(self._text)
        self._text.clear()
        # A notification takes 8 kB, so a large piece goes out in several.
        for start in range(0, len(text), 1000):
            self._send(text[start : start + 1000])

    def _send(self, text: str) -> None:
        data = {
            "message_id": str(self._message_id),
            "attempt": self._attempt,
            "offset": self._offset,
            "delta": text,
        }
        self._offset += len(text)
        self._fanout.publish_live(
            Record(
                stream_id=self._session_id,
                seq=0,
                id=None,
                type="message.delta",
                data=canonical.text(data),
                created_at=datetime.datetime.now(datetime.UTC),
                turn_id=self._turn_id,
            )
        )


class Generator:
    """Makes model calls."""

    def __init__(self, drivers: Drivers, fanout: FanOut, settings: TurnSettings) -> None:
        self._drivers = drivers
        self._fanout = fanout
        self._settings = settings

    async def generate(
        self,
        model: ResolvedModel,
        request: GenerationRequest,
        *,
        session_id: uuid.UUID,
        turn_id: uuid.UUID,
        message_id: uuid.UUID,
        generation: int,
        history_seq: int,
    ) -> Generation:
        """Make the call, again after passing failures; the outcome of a lasting one has no reply.

        ``generation`` is the stream's: attempts made after a takeover are numbered above those made before.
        """
        started = time.perf_counter()
        attempts = 0
        reply = None
        with _span(model, request) as span:
            try:
                async for attempt in stamina.retry_context(
                    on=_back_off,
                    attempts=self._settings.model_attempts,
                    timeout=None,
                    wait_initial=self._settings.retry_initial,
                    wait_max=self._settings.retry_max,
                ):
                    with attempt:
                        attempts = attempt.num
                        number = generation * _ATTEMPTS_PER_GENERATION + attempts
                        deltas = Deltas(self._fanout, session_id, turn_id, message_id, number)
                        reply = await self._attempt(model, request, deltas)
            except ModelError as error:
                log.warning("turn.model_failed", model=model.name, attempts=attempts, error=str(error))
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            _describe(span, model, reply)
        return Generation(reply, round((time.perf_counter() - started) * 1000), max(attempts, 1), history_seq)

    async def _attempt(self, model: ResolvedModel, request: GenerationRequest, deltas: Deltas) -> Reply:
        async with self._drivers.lend(model) as driver:
            stream: Any = driver.generate(request)
            try:
                async for piece in stream:
                    if isinstance(piece, TextDelta):
                        deltas.add(piece.text)
                    elif isinstance(piece, Reply):
                        return piece
            finally:
                deltas.flush()
                with contextlib.suppress(RuntimeError):
                    await stream.aclose()
        raise ModelError("the driver ended without a reply", retryable=True)


def _back_off(error: Exception) -> bool | float:
    """Say whether to try again; a vendor's own wish for the pause is honoured up to a minute."""
    if not isinstance(error, ModelError) or not error.retryable:
        return False
    return min(error.retry_after, 60.0) if error.retry_after else True


@contextlib.contextmanager
def _span(model: ResolvedModel, request: GenerationRequest) -> Iterator[trace.Span]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": model.provider_type,
        "gen_ai.request.model": model.name,
    }
    if request.max_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = request.max_tokens
    if request.temperature is not None:
        attributes["gen_ai.request.temperature"] = request.temperature
    with telemetry.tracer.start_as_current_span(
        f"chat {model.name}", kind=trace.SpanKind.CLIENT, attributes=attributes
    ) as span:
        yield span


def _describe(span: trace.Span, model: ResolvedModel, reply: Reply | None) -> None:
    if reply is None:
        return
    span.set_attribute("gen_ai.response.finish_reasons", [reply.finish_reason])
    if reply.response_id is not None:
        span.set_attribute("gen_ai.response.id", reply.response_id)
    if reply.usage is not None:
        span.set_attribute("gen_ai.usage.input_tokens", reply.usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", reply.usage.output_tokens)
        telemetry.MODEL_TOKENS.labels(model.provider_type, "input").inc(reply.usage.input_tokens)
        telemetry.MODEL_TOKENS.labels(model.provider_type, "output").inc(reply.usage.output_tokens)
