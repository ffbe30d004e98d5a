"""Reports of single events: log lines on stderr, and a span for each request if a collector is set.

A line or a span that is lost affects no request. Neither contains a text or a key.
Source of the header `traceparent`: W3C Trace Context, section 3.2.
"""

from __future__ import annotations

import os
import re
import select
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from potstill.contract.errors import MissingExtraError
from potstill.serve.http.asgi import Message, header

STDERR = 2
MAX_LINE_BYTES = 4096  # PIPE_BUF of Linux: a pipe takes so much whole or not at all
EXPORT_TIMEOUT_S = 5  # for the collector to accept a batch of spans
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZEROS = b"0"


class ServerLog:
    """Writes lines to a descriptor and never waits. What cannot be written, as to a full disk or a pipe that nobody reads, is
    lost and counted."""

    def __init__(self, descriptor: int = STDERR, when_lost: Callable[[], None] | None = None) -> None:
        """Args: file descriptor to write to; function to call for each lost line."""
        self._descriptor, self._when_lost = descriptor, when_lost
        self._write = _writer(descriptor)

    def line(self, text: str) -> None:
        """Write one line with a single system call; line breaks become spaces. It is cut to what a pipe takes at once."""
        data = " ".join(text.split()).encode(errors="replace")
        try:
            self._write(data[: MAX_LINE_BYTES - 1].decode(errors="ignore").encode() + b"\n")
        except OSError:
            if self._when_lost is not None:
                self._when_lost()

    def bug(self, where: str) -> None:
        """Write the stack of the exception being handled. Its message is left out, as it might quote a text."""
        kind, _, trace = sys.exc_info()
        frames = "; ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
        self.line(f"bug: {where}: {kind.__name__ if kind else 'unknown'} at {frames}")


def _writer(descriptor: int) -> Callable[[bytes], object]:
    """A function that writes to a descriptor without waiting; it raises OSError if it cannot.

    The flag for that belongs to the open file, which other processes share. So a pipe or a terminal is opened once more; where
    that is not allowed, it is asked first.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return partial(os.write, descriptor)
    if stat.S_ISSOCK(mode):
        sender = socket.socket(fileno=os.dup(descriptor))
        return lambda data: sender.send(data, socket.MSG_DONTWAIT)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return partial(os.write, descriptor)
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return partial(_write_if_ready, descriptor)
    return partial(os.write, own)


def _write_if_ready(descriptor: int, data: bytes) -> None:
    """Write a line if there is room for it; raises OSError."""
    if not select.select([], [descriptor], [], 0)[1]:
        raise BlockingIOError
    os.write(descriptor, data)


@dataclass(frozen=True, slots=True)
class TraceParent:
    """The caller's span."""

    trace_id: int  # 128 bits, not 0
    span_id: int  # 64 bits, not 0
    sampled: bool


@dataclass(frozen=True, slots=True)
class Span:
    """A request as it is reported to a tracer. It contains no text."""

    name: str  # method and route, as in "POST /classify"
    parent: TraceParent | None
    start_ns: int  # Unix time
    end_ns: int  # Unix time
    attributes: Mapping[str, str | int | float]
    is_error: bool  # status 5xx


def parse_traceparent(value: bytes | None) -> TraceParent | None:
    """The caller's span; None without the header, or if it is malformed, which the standard says to ignore."""
    match = None if value is None else _PARENT.fullmatch(value.strip())
    if match is None or (match[1] == b"00" and match[5]) or not match[2].strip(_ZEROS) or not match[3].strip(_ZEROS):
        return None
    return TraceParent(int(match[2], 16), int(match[3], 16), bool(int(match[4], 16) & 1))


def request_span(scope: Message, route: str, start_s: float, status: int) -> Span:
    """The span of a request that ends now.

    Args:
        scope: the ASGI scope of the request.
        route: its path with the variable parts named.
        start_s: when it was received, by `time.monotonic`.
        status: of its reply.
    """
    end_ns = time.time_ns()
    attributes = {"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status}
    start_ns = end_ns - int((time.monotonic() - start_s) * 1e9)
    parent = parse_traceparent(header(scope, b"traceparent"))
    return Span(f"{scope['method']} {route}", parent, start_ns, end_ns, attributes, status >= 500)


class OtlpTracer:
    """Sends spans to an OpenTelemetry collector in background batches; the server never waits, late batches are dropped.

    The imports are inside the methods, so that only a server with a collector needs the extra `otlp`.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        """Start the background sender.

        Args:
            endpoint: the collector's address for traces, such as http://127.0.0.1:4318/v1/traces.
            version: of the program.
        Raises:
            MissingExtraError: if the extra `otlp` is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "opentelemetry", "otlp") from error
        resource = Resource({"service.name": "potstill", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("potstill")

    def take(self, span: Span) -> None:
        """Queue a span."""
        from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

        context = None
        if span.parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if span.parent.sampled else TraceFlags.DEFAULT)
            caller = SpanContext(span.parent.trace_id, span.parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(caller))
        sent = self._tracer.start_span(
            span.name, context, kind=SpanKind.SERVER, attributes=dict(span.attributes), start_time=span.start_ns
        )
        if span.is_error:
            sent.set_status(Status(StatusCode.ERROR))
        sent.end(span.end_ns)

    def close(self) -> None:
        """Send what is queued; gives up after a few seconds."""
        self._provider.shutdown()
