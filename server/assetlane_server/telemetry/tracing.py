"""Traces, with OpenTelemetry: the only file with it, imported when somebody asks for traces.

Spans are ours and not those of opentelemetry-instrumentation-grpc, which wraps the stream handlers of grpc.aio in
a way of its own. The standard variables say where they go and how many: OTEL_EXPORTER_OTLP_ENDPOINT and _HEADERS,
OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from assetlane.version import __version__
from assetlane_server.ports.meter import Server
from assetlane_server.telemetry.instruments import Span, Tracer

_FLUSH_LIMIT_MS = 3000
_CLOSE_LIMIT_S = 5.0
_SPAN_SYSTEMS = {"mongodb": ("db.system.name", "mongodb"), "s3": ("rpc.system", "aws-api")}


@asynccontextmanager
async def tracing(exporter: SpanExporter | None = None) -> AsyncIterator["Tracing"]:
    """Opens the way to the collector that the environment names, unless an exporter is given. Calls none yet."""
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "assetlane"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    try:
        yield Tracing(provider)
    finally:
        # A collector that does not answer must not hold up a server that stops.
        closing = asyncio.gather(asyncio.to_thread(_close, provider), return_exceptions=True)
        await asyncio.wait([closing], timeout=_CLOSE_LIMIT_S)


def _close(provider: TracerProvider) -> None:
    provider.force_flush(_FLUSH_LIMIT_MS)
    provider.shutdown()


class Tracing(Tracer):
    """Begins traces with OpenTelemetry."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("assetlane_server", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @override
    def call(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> "TracedSpan":
        service, _, name = method.lstrip("/").partition("/")
        carrier = {key: value for key, value in metadata if isinstance(value, str) and key.startswith("trace")}
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=self._propagator.extract(carrier) if carrier else context.Context(),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        # Never detached: the task ends with the call. Detaching in a generator that somebody else closes fails.
        context.attach(trace.set_span_in_context(span))
        return TracedSpan(span)

    @override
    def asking(self, server: Server, operation: str) -> "TracedSpan":
        if not trace.get_current_span().get_span_context().is_valid:
            return TracedSpan(trace.INVALID_SPAN)  # the sweeper's and the hub's: a trace for each would be noise
        system, name = _SPAN_SYSTEMS[server]
        attributes = {system: name, "assetlane.operation": operation}
        return TracedSpan(self._tracer.start_span(f"{server} {operation}", kind=SpanKind.CLIENT, attributes=attributes))


class TracedSpan(Span):
    """A span of OpenTelemetry."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @override
    def set(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    @override
    def end(self, failure: str = "") -> None:
        if failure:  # its kind alone: what an exception says may name a URL
            self._span.set_attribute("error.type", failure)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
