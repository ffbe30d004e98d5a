"""Spans sent to an OpenTelemetry collector over OTLP/HTTP; only where an address is given. It needs the extra `otlp`."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

from potstill.serve.http.telemetry.tracing import Span

EXPORT_TIMEOUT_S = 5


class OtlpTracer:
    """Sends spans in the background, in batches; what a collector does not take in time is dropped, never waited for."""

    def __init__(self, endpoint: str, version: str) -> None:
        """Args: the collector's address for traces, such as http://127.0.0.1:4318/v1/traces; version of the program."""
        resource = Resource({"service.name": "potstill", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("potstill")

    def take(self, span: Span) -> None:
        """Queue a span."""
        context = None
        if span.parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if span.parent.sampled else TraceFlags.DEFAULT)
            caller = SpanContext(span.parent.trace_id, span.parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(caller))
        told = self._tracer.start_span(
            span.name, context, kind=SpanKind.SERVER, attributes=dict(span.attributes), start_time=span.start_ns
        )
        if span.is_error:
            told.set_status(Status(StatusCode.ERROR))
        told.end(span.end_ns)

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._provider.shutdown()
