"""The application is plain ASGI: a server that is not uvicorn runs it too."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from support.serving import PATIENCE_S, ROOT, wait_until
from support.tiny_bundle import write_bundle

from potstill.serve.runtime.classifier import Classifier

APP = """
from pathlib import Path
from potstill.serve.http.application.asgi_app import build_application
from potstill.serve.http.config import BundleSpec, Limits

app = build_application([BundleSpec(Path({folder!r}))], Limits(), n_workers=1, keys=None, otlp=None)
"""


def a_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, method, path, value=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, None if value is None else json.dumps(value))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def is_ready(port):
    try:
        return ask(port, "GET", "/readyz")[0] == 200
    except ConnectionError:
        return False


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "plain")


def test_granian_runs_the_application_and_stops_it(folder, tmp_path):
    (tmp_path / "granian_app.py").write_text(APP.format(folder=str(folder)))
    port = a_free_port()
    places = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--no-ws", "granian_app:app"]
    log = tmp_path / "log"
    with log.open("wb") as lines:
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": places}, stdout=lines, stderr=lines)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(port), "ready")
        assert process.poll() is None, log.read_text()
        with Classifier.open(folder) as classifier:
            (answer,) = classifier.classify(["the price will rise"])
        status, body = ask(port, "POST", "/classify", {"text": "the price will rise"})
        assert (status, body["answer"]["probs"]) == (200, answer.probs)
        assert ask(port, "POST", "/classify", {"text": 1})[0] == 422
        texts = {"texts": ["rise"] * 64, "timeout_ms": 60000}
        assert len(ask(port, "POST", "/classify", texts)[1]["answers"]) == 64
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
