"""The wall clock may be set while the server runs; deadlines follow the monotonic clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import write_bundle

pytestmark = pytest.mark.slow

# Found by every Python that has it on its path: each look at the wall clock is a day before, or a day after, the one before.
JUMPS = {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3] / "support" / "jumping_clock"), os.environ.get("PYTHONPATH", "")])
}
RECEIPT_S = 1
A_DAY_S = 86_400


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    folders = [f"plain={write_bundle(root / 'plain')}", f"slow={write_bundle(root / 'slow', slow=2500)}"]
    with ServerProcess(*folders, "--workers", "1", "--receipt-s", RECEIPT_S, env=JUMPS) as server:
        yield server


def test_the_clock_does_jump():
    code = "import time; t = [time.time() for _ in range(3)]; print(t[1] - t[0] > 1e5, t[2] - t[1] < -1e5)"
    found = subprocess.run([sys.executable, "-c", code], env={**os.environ, **JUMPS}, capture_output=True, text=True, timeout=60)
    assert found.stdout == "True True\n"


def test_no_deadline_moves_when_the_clock_jumps(server):
    for _ in range(20):
        status, body = server.classify(text="rise", timing=True, timeout_ms=60000)
        assert status == 200
        assert all(0 <= ms < A_DAY_S * 1e3 / 2 for ms in body["timing"].values()), body["timing"]
    for _ in range(2):  # queued, and answered by a worker thread
        assert server.post("/bundles/slow/classify", {"texts": ["rise"] * 20, "timeout_ms": 60000})[0] == 200
    assert server.post("/bundles/slow/classify", {"texts": ["rise"] * 64, "timeout_ms": 0.01})[0] == 429
    assert server.ask("GET", "/readyz")[0] == 200


def test_a_slow_client_is_cut_off_neither_sooner_nor_later_when_the_clock_jumps(server):
    with server.socket() as client:
        began = time.monotonic()
        client.sendall(b"POST /classify HTTP/1.1\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began > RECEIPT_S / 2


def test_the_times_in_the_metrics_do_not_jump(server):
    assert server.classify(text="rise")[0] == 200
    total_s = server.count("potstill_request_seconds_sum", bundle="plain")
    assert 0 < total_s < A_DAY_S / 2


def test_a_stop_takes_its_time_and_no_more_when_the_clock_jumps(tmp_path):
    with ServerProcess(write_bundle(tmp_path / "plain"), env=JUMPS) as server:
        assert server.classify(text="rise")[0] == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began > 0.2  # the pause for load balancers
        assert server.process.stderr.read() == b""
