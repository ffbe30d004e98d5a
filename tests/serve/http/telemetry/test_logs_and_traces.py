from __future__ import annotations

import http.server
import os
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

from potstill.serve.http.telemetry.logs_and_traces import ServerLog, TraceParent, parse_traceparent

pytestmark = pytest.mark.slow

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def log():
    """(a log, a function that gives its lines so far)."""
    reading, writing = os.pipe()
    yield ServerLog(writing), lambda: os.read(reading, 65536).decode().splitlines()
    os.close(reading)
    os.close(writing)


def test_a_log_line_is_one_line(log):
    written, lines = log
    written.line("two\nlines  and \ud800")
    assert lines() == ["two lines and ?"]


def test_lines_that_a_full_pipe_does_not_take_are_counted_and_the_log_does_not_wait():
    reading, writing = os.pipe()
    lost = []
    log = ServerLog(writing, lambda: lost.append(1))
    try:
        for _ in range(100):
            log.line("y" * 5000)
        assert lost and os.get_blocking(writing)  # whoever shares the pipe still waits as before
        lines = os.read(reading, 1 << 20).splitlines()
        assert {len(line) for line in lines} == {4095} and len(lines) + len(lost) == 100
    finally:
        os.close(reading)
        os.close(writing)


def test_a_bug_is_logged_with_its_place_and_without_its_message(log):
    written, lines = log
    try:
        raise ValueError("zebra")
    except ValueError:
        written.bug("/classify")
    (line,) = lines()
    assert line.startswith("bug: /classify: ValueError at ") and __file__ in line and "zebra" not in line


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_parent_is_read(flags):
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode()) == TraceParent(
        int(TRACE, 16), int(SPAN, 16), int(flags, 16) % 2 == 1
    )


def test_a_later_version_may_have_more_after_the_flags():
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more".encode()) is not None


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"00", f"00-{TRACE}-{SPAN}-01-more".encode(), f"ff-{TRACE}-{SPAN}-01".encode(), f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(), f"00-{TRACE.upper()}-{SPAN}-01".encode(), f"00-{TRACE}-{SPAN}".encode(), b"\xff" * 55,
    ],
)  # fmt: skip
def test_a_malformed_parent_is_ignored(value):
    assert parse_traceparent(value) is None


@pytest.fixture
def collector():
    """A real HTTP server that accepts spans."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans_with_their_parent_and_without_a_text_reach_a_collector(collector, tmp_path):
    url, bodies = collector
    with ServerProcess(write_bundle(tmp_path / "plain"), "--otlp", url) as server:
        server.post("/classify", {"text": "zebra"}, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
        server.post("/classify", {"text": 1})
        wait_until(lambda: bodies, "spans")
        assert server.stop() == 0  # the rest is sent before the end
    spans = []
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    first, second = sorted(spans, key=lambda span: span.start_time_unix_nano)
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.name) == (TRACE, SPAN, "POST /classify")
    assert not second.parent_span_id
    statuses = [{a.key: a.value for a in span.attributes}["http.response.status_code"].int_value for span in (first, second)]
    assert statuses == [200, 422] and 0 < first.end_time_unix_nano - first.start_time_unix_nano < 10**10
    assert not any(b"zebra" in body for body in bodies)


def test_a_collector_that_is_down_affects_no_request(tmp_path):
    with ServerProcess(write_bundle(tmp_path / "plain"), "--otlp", "http://127.0.0.1:9/v1/traces") as server:
        assert server.classify(text="rise")[0] == 200
        assert server.stop() == 0
