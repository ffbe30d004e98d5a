"""What every test may use: the two real models, and a process that neither asks the network nor takes every core."""

import os

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest

from contract.errors import UserError
from models.catalog import find_backbone, find_teacher

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real 135M teacher, a GGUF file."""
    try:
        return find_teacher("smollm2-135m-instruct").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real backbone, an encoder folder."""
    try:
        return find_backbone("all-minilm-l6-v2").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def console() -> list[str]:
    """The command line of the real console: `subprocess.run([*console, "task", ...])`, from any folder."""
    start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from commands.main import main; main()"
    return [sys.executable, "-c", start]


@pytest.fixture(autouse=True)
def two_torch_threads():
    """Torch keeps to two threads, where a test has imported it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(2)


class ScriptedServer:
    """A real HTTP server on loopback whose answers a test writes: `script(path, body)` gives (status, headers, content).

    The content is a value for JSON, or bytes; None closes the connection without a word.
    """

    def __init__(self, script):
        self.script, self.requests, self.most_at_once = script, [], 0
        self._lock, self._n_now = threading.Lock(), 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
                outer.answer(self, body)

            def do_GET(self):
                self.do_POST()

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that went away is what some tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.host}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def answer(self, handler, body):
        with self._lock:
            self.requests.append((handler.path, dict(handler.headers), body))
            self._n_now += 1
            self.most_at_once = max(self.most_at_once, self._n_now)
        try:
            reply = self.script(handler.path, body)
        finally:
            with self._lock:
                self._n_now -= 1
        if reply is None:
            handler.close_connection = True
            return
        status, headers, content = reply
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response_only(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def completions(self):
        """Bodies of the requests for completions so far."""
        return [body for path, _, body in self.requests if path == "/v1/completions"]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def scripted_server():
    """Starts scripted servers, and ends them with the test."""
    running = []

    def start(script):
        running.append(ScriptedServer(script))
        return running[-1]

    yield start
    for server in running:
        server.close()
