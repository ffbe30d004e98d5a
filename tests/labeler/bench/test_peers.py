"""The real llama-server where it was built; programs that fail in its place."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs

from potstill.contract.errors import UserError
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.bench import peers
from potstill.labeler.bench.peers import LlamaServer, ServerPart
from potstill.labeler.bench.workload import Workload, count_tokens
from potstill.labeler.teacher import Identity

pytestmark = pytest.mark.slow

BUILT = sorted(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").glob("potstill/llama-server-*/bin/llama-server"))
STAND_IN = f"""#!{sys.executable} -I
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(STATUS)
        self.end_headers()
        self.wfile.write(b'BODY')

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def program(folder: Path, text: str) -> Path:
    path = folder / "llama-server"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def start(path: Path, life_s: float = 60) -> LlamaServer:
    return LlamaServer(path, Path("model.gguf"), "on", n_slots=2, n_cells=512, n_threads=1, life_s=life_s)


def test_a_file_that_cannot_be_run_is_refused(tmp_path):
    path = tmp_path / "llama-server"
    path.write_text("text")
    with pytest.raises(UserError) as caught:
        start(path)
    assert str(caught.value) == (
        f"--server: {path} is not an executable file; give the path of llama-server (see benchmarks/teacher/build_llama_server)"
    )


def test_a_server_that_ends_at_once_is_quoted(tmp_path):
    path = program(tmp_path, "#!/bin/sh\necho 'error: unknown argument: -np' >&2\nexit 1\n")
    with pytest.raises(UserError) as caught:
        start(path)
    assert str(caught.value) == f"--server: {path} does not start; its log ends with: error: unknown argument: -np"


def test_a_server_that_never_answers_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "START_S", 0.5)
    path = program(tmp_path, "#!/bin/sh\nexec sleep 60\n")
    began = time.monotonic()
    with pytest.raises(UserError, match=re.escape(f"--server: {path} does not start; its log is empty")):
        start(path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (200, "{}", "does not support several answers to one prompt (n_cmpl); build a newer one"),
        (400, "no such model", "answered 400: no such model"),
    ],
)
def test_an_answer_that_is_no_use_is_refused(status, body, line, tmp_path):
    path = program(tmp_path, STAND_IN.replace("STATUS", str(status)).replace("BODY", body))
    server = start(path)
    try:
        with pytest.raises(UserError) as caught:
            server.complete({"n_cmpl": 2})
        assert str(caught.value) == f"--server: {path} {line}"
    finally:
        server.close()


def test_a_server_that_is_gone_is_reported(tmp_path):
    path = program(tmp_path, STAND_IN.replace("STATUS", "200").replace("BODY", "[]"))
    server = start(path, life_s=1.5)
    server._process.wait(20)  # its time is up
    with pytest.raises(UserError, match=r"stopped answering \(\[Errno \d+\] Connection refused\); its log ends with: "):
        server.complete({"n_cmpl": 2})
    server.close()
    server.close()


def test_a_program_ends_with_whoever_started_it(tmp_path):
    mark = tmp_path / "pid"
    command = [sys.executable, "-I", str(peers.WATCH), "60", "/bin/sh", "-c", f"echo $$ > {mark}; exec sleep 60"]
    starter = f"import subprocess, sys, time; subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", starter]) as process:
        wait_until(lambda: mark.exists() and mark.read_text().strip())
        pid = int(mark.read_text())
        process.kill()  # as the kernel does when memory runs out: it can do nothing more
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not BUILT, reason="no llama-server; benchmarks/teacher/build_llama_server builds it")
def test_the_real_server_draws_every_path(smollm2, repository, monkeypatch):
    monkeypatch.setattr(peers, "IN_FLIGHT", (2,))
    task = load_task(repository / "examples" / "market_stance" / "task.toml")
    short = structs.replace(task, guideline="", examples=task.examples[:3])
    load = Workload(short, [Text("Bought more.", "a"), Text("Sold it all.", "b")], 2, Identity("smollm2", "d", "d", "b"))
    counts = count_tokens(load, smollm2)
    part = ServerPart(load, counts, BUILT[-1], smollm2, n_threads=2)
    try:
        part.warm_up()
        turn = part.turn(range(2))
    finally:
        part.close()
    assert part.n_in_flight == 2 and part.flash in ("on", "off")
    assert sum(counts.cot) + 4 * 2 < turn.n_tokens <= sum(counts.cot) + 4 * load.max_new_tokens
