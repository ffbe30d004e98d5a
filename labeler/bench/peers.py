"""The peers of the benchmark: llama.cpp's own server, and a loop over llama-cpp-python's `create_completion`.

The server draws several answers to one prompt over one KV cache; the loop draws one answer after the other.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from llama_cpp import Llama

from potstill.contract.errors import UserError
from potstill.labeler.bench.turns import Turn
from potstill.labeler.bench.workload import STOP, TokenCounts, Workload
from potstill.labeler.engine.llama_bindings import TOP_K
from potstill.labeler.teacher import path_seed

HOST = "127.0.0.1"
WATCH = Path(__file__).with_name("watchdog.py")
START_S = 120.0  # timeout of the start
ANSWER_S = 300.0  # timeout of one text
IN_FLIGHT = (1, 2, 4)  # numbers of concurrent texts to try
FLASH = ("on", "off")  # flash attention settings to try; the server's default is `on`, which is slow for few paths on a CPU
N_TRIAL = 4  # texts per trial


def check_program(program: Path) -> None:
    """Refuse a path that is not an executable file; raises UserError."""
    if not program.is_file() or not os.access(program, os.X_OK):
        raise UserError(
            f"--server: {program} is not an executable file; give the path of llama-server "
            "(see benchmarks/teacher/build_llama_server)"
        )


class LlamaServer:
    """A llama-server process on loopback; it ends with this process, and after ``life_s`` seconds at the latest."""

    def __init__(
        self, program: Path, model: Path, flash: str, *, n_slots: int, n_cells: int, n_threads: int, life_s: float
    ) -> None:
        """Start it and wait until it answers.

        Args:
            flash: `on` or `off`, whether it uses flash attention.
        Raises:
            UserError: if it ends, or does not answer in time; the message quotes its log.
        """
        check_program(program)
        self._program, self._port = program, _free_port()
        arguments = ["-m", str(model), "--host", HOST, "--port", str(self._port), "-t", str(n_threads), "-tb", str(n_threads)]
        arguments += [
            "-np",
            str(n_slots),
            "--kv-unified",
            "-c",
            str(n_cells),
            "-fa",
            flash,
            "--cache-ram",
            "0",
            "--no-ui",
            "--offline",
        ]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WATCH), str(life_s), str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def complete(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The answers to one request.

        Args:
            request: body of `POST /completion`, with `n_cmpl`.
        Raises:
            UserError: if the server rejects the request, has ended, or is too old for several answers.
        """
        try:
            status, body = self._http("POST", "/completion", json.dumps(request), ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"--server: {self._program} stopped answering ({error}); {self._last_log_line()}") from error
        if status != http.client.OK:
            raise UserError(f"--server: {self._program} answered {status}: {body[:200]}")
        answers = json.loads(body)
        if not isinstance(answers, list) or len(answers) != request["n_cmpl"]:
            raise UserError(f"--server: {self._program} does not support several answers to one prompt (n_cmpl); build a newer one")
        return answers

    def close(self) -> None:
        """End the process; safe to call twice."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self._http("GET", "/health", None, 1.0)[0] == http.client.OK:
                    return
            except (OSError, http.client.HTTPException):
                pass  # not listening yet
            time.sleep(0.1)
        raise UserError(f"--server: {self._program} does not start; {self._last_log_line()}")

    def _http(self, method: str, path: str, body: str | None, timeout_s: float) -> tuple[int, str]:
        """Send one request; returns status and body."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def _last_log_line(self) -> str:
        """The last line of the server's log, as a clause for a message."""
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"its log ends with: {lines[-1].strip()}" if lines else "its log is empty"


class ServerPart:
    """llama-server with one request per text, with the attention setting and concurrency that are fastest."""

    name = "server"

    def __init__(self, load: Workload, counts: TokenCounts, program: Path, model: Path, n_threads: int) -> None:
        """Start the server; raises UserError if that fails."""
        self._load, self._counts = load, counts
        n_slots = load.n_paths * max(IN_FLIGHT)
        self._start = partial(
            LlamaServer,
            program,
            model,
            n_slots=n_slots,
            n_cells=n_slots * (counts.longest_prompt + load.max_new_tokens),
            n_threads=n_threads,
            life_s=600 + 60 * len(load.texts),
        )
        self.flash, self.n_in_flight = FLASH[0], IN_FLIGHT[0]
        self._server = self._start(self.flash)

    def warm_up(self) -> None:
        """Find the fastest settings."""
        rows = range(min(N_TRIAL, len(self._load.texts)))
        trials = {}
        for flash in FLASH:
            self._use(flash)
            for self.n_in_flight in IN_FLIGHT:
                trials[flash, self.n_in_flight] = self.turn(rows).seconds
        flash, self.n_in_flight = min(trials, key=lambda tried: trials[tried])
        self._use(flash)

    def turn(self, rows: range) -> Turn:
        """Label these texts."""
        began = time.perf_counter()
        n_written = self._label(rows)
        return Turn(time.perf_counter() - began, n_written + sum(self._counts.cot[row] for row in rows))

    def close(self) -> None:
        """End the server."""
        self._server.close()

    def _use(self, flash: str) -> None:
        """Switch to a server with this attention setting, and with the prefix in its cache."""
        if flash != self.flash:
            self._server.close()
            self.flash, self._server = flash, self._start(flash)
        self._label([0])

    def _label(self, rows: Sequence[int]) -> int:
        """Draw every path of the texts; returns the number of generated tokens."""
        with ThreadPoolExecutor(self.n_in_flight) as pool:
            answers = pool.map(self._server.complete, map(self._request, rows))
            return sum(answer["tokens_predicted"] for paths in answers for answer in paths)

    def _request(self, row: int) -> dict[str, Any]:
        """The request for every path of one text, with our own sampling chain and nothing else."""
        load = self._load
        return {
            "prompt": load.prompts[row],
            "n_cmpl": load.n_paths,
            "n_predict": load.max_new_tokens,
            "samplers": ["top_k", "temperature"],
            "top_k": TOP_K,
            "temperature": load.temperature,
            "stop": [STOP],
            "seed": path_seed(load.seed, load.texts[row].id, 0),
            "cache_prompt": True,
        }


def _free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class CompletionLoop:
    """llama-cpp-python's `Llama` with its defaults: it reuses the cached beginning that two prompts in a row share, the prefix."""

    name = "loop"

    def __init__(self, load: Workload, counts: TokenCounts, model: Path, n_threads: int) -> None:
        """Load the model, with a context that just fits."""
        self._load, self._counts = load, counts
        self._llama = Llama(
            str(model),
            n_ctx=counts.longest_prompt + load.max_new_tokens,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            verbose=False,
        )

    def warm_up(self) -> None:
        """Label one text; from then on the cache holds the prefix."""
        self._label(0)

    def turn(self, rows: range) -> Turn:
        """Label these texts, path by path."""
        began = time.perf_counter()
        n_written = sum(map(self._label, rows))
        return Turn(time.perf_counter() - began, n_written + sum(self._counts.cot[row] for row in rows))

    def close(self) -> None:
        """Free model and context."""
        self._llama.close()

    def _label(self, row: int) -> int:
        """Draw every path of one text; returns the number of generated tokens."""
        load = self._load
        answers = (
            self._llama.create_completion(
                load.prompts[row],
                max_tokens=load.max_new_tokens,
                temperature=load.temperature,
                top_k=TOP_K,
                top_p=1.0,
                min_p=0.0,
                stop=[STOP],
                seed=path_seed(load.seed, load.texts[row].id, path),
            )
            for path in range(load.n_paths)
        )
        return sum(answer["usage"]["completion_tokens"] for answer in answers)
