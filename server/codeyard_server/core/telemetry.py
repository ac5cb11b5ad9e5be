"""Logs, metrics and traces. Logs are always on; metrics and traces only where the settings ask for them."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import prometheus_client
import structlog
from opentelemetry import trace

tracer = trace.get_tracer("codeyard")

RPCS = prometheus_client.Counter("codeyard_rpc_total", "Calls by method and gRPC code.", ["method", "code"])
RPC_SECONDS = prometheus_client.Histogram(
    "codeyard_rpc_duration_seconds",
    "Seconds of a call; of a stream, its whole life.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
TURNS = prometheus_client.Counter("codeyard_turns_total", "Turns by how they ended.", ["outcome"])
TURN_SECONDS = prometheus_client.Histogram("codeyard_turn_duration_seconds", "Seconds from a turn's start to its end.")
MODEL_TOKENS = prometheus_client.Counter(
    "codeyard_model_tokens_total", "Tokens by provider type and direction.", ["provider", "direction"]
)
SUBSCRIBERS = prometheus_client.Gauge("codeyard_subscribers", "Open event streams of this process.")


def configure_logging(level: str, *, json_lines: bool) -> None:
    """Send structured logs to stderr, one JSON object a line, or coloured for people; the standard logging joins in."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Third-party chatter at INFO: one line per request of every HTTP client, one per job of the queue.
    for name in ("httpx", "httpx2", "httpcore", "openai", "anthropic", "pgqueuer", "mcp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def configure_tracing(endpoint: str | None, service_name: str, version: str, environment: str | None) -> None:
    """Export traces over OTLP/HTTP to the endpoint; without one, spans cost next to nothing."""
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {"service.name": service_name, "service.version": version}
    if environment:
        attributes["deployment.environment.name"] = environment
    provider = TracerProvider(resource=Resource(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")))
    trace.set_tracer_provider(provider)


def serve_metrics(address: str | None) -> None:
    """Serve Prometheus metrics over HTTP at host:port from a thread; not at all without an address."""
    if address:
        host, _, port = address.rpartition(":")
        prometheus_client.start_http_server(int(port), addr=host or "127.0.0.1")


@contextlib.contextmanager
def rpc_span(method: str) -> Iterator[None]:
    """Trace one unary call. (The instrumentation package for grpc breaks coroutine stream handlers.)"""
    service, _, name = method[1:].partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    with tracer.start_as_current_span(method[1:], kind=trace.SpanKind.SERVER, attributes=attributes):
        yield


def rpc_done(method: str, code: str, started: float) -> None:
    """Count a call that has ended; started is a time.perf_counter()."""
    RPCS.labels(method, code).inc()
    RPC_SECONDS.labels(method).observe(time.perf_counter() - started)
