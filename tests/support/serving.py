"""The real server in a process of its own, on loopback."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


class ServerProcess:
    """`potstill serve` with these arguments; a `with` block ends it."""

    def __init__(self, *args, env=None, stderr=subprocess.PIPE, prefix=()):
        place = [] if "--unix" in args else ["--port", "0"]
        command = [*prefix, sys.executable, "-m", "potstill.commands.main", "serve", *map(str, args), *place]
        self.process = subprocess.Popen(command, stderr=stderr, cwd=ROOT, env={**os.environ, **(env or {})})
        self.line = self.process.stderr.readline().decode() if stderr == subprocess.PIPE else ""
        while "--teacher" in args and self.line and "stop it with Ctrl-C" not in self.line:  # the teacher's lines come first
            self.line = self.process.stderr.readline().decode()
        self.port = int(self.line.split(" with ")[0].rpartition(":")[2]) if "http://" in self.line else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def ask(self, method, path, body=None, headers=None):
        """(status, body, headers) of one request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def post(self, path, value, headers=None):
        """(status, decoded body) of JSON posted."""
        status, body, _ = self.ask("POST", path, json.dumps(value).encode(), headers)
        return status, json.loads(body)

    def classify(self, **request):
        return self.post("/classify", request)

    def metrics(self):
        """{(name, sorted labels): value} of /metrics, parsed by Prometheus's own library."""
        from prometheus_client.parser import text_string_to_metric_families

        page = self.ask("GET", "/metrics")[1].decode()
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(page) for s in f.samples}

    def count(self, name, **labels):
        """One value of the metrics, 0 if it is absent."""
        return self.metrics().get((name, tuple(sorted(labels.items()))), 0)

    def stop(self, sig=signal.SIGTERM):
        """Send a signal; returns the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE_S)


LINKED = """
import json, sys
import msgspec
from potstill.serve.http.config import ServeConfig, TeacherLink
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.run import serve

config = ServeConfig(**json.loads(sys.argv[2]), teacher=msgspec.json.decode(sys.argv[1], type=TeacherLink))
serve(sys.argv[3:], config, announce=ServerLog().line)
"""


class LinkedServer(ServerProcess):
    """A server of bundles whose teacher listens at a socket, whoever that is. Args: fields of the link; `config`, of the server."""

    def __init__(self, *bundles, config=None, **link):
        command = [sys.executable, "-c", LINKED, json.dumps(link), json.dumps({"port": 0, **(config or {})}), *map(str, bundles)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
        self.line = self.process.stderr.readline().decode()
        self.port = int(self.line.split(" with ")[0].rpartition(":")[2])


def wait_until(true, what):
    """Wait until `true()` holds; fails after PATIENCE_S with `what` in its message."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, f"never: {what}"
        time.sleep(0.01)
