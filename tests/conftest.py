"""What every test may use: the two real models, and a process that neither asks the network nor takes every core."""

import os

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Threads that spin starve the other worker's, so where several workers share the cores each has one, and none spins.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import ctypes
import ctypes.util
import fcntl
import http.server
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, TeacherPath, TooLong, never, path_seed
from potstill.models.catalog import find_backbone, find_teacher

pytest_plugins = ["support.browser"]

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("untimed", deadline=None)  # an example that a busy machine makes slow is no failure
settings.load_profile("untimed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, do not load the files that have no others: most of them import torch."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of which several workers would otherwise wait for one at the end (`--no-loadscope-reorder` keeps the order)."""
    first = (
        "workflows/test_pipeline",
        "trainer/training",
        "labeler/store/test_durability",
        "commands/labelling/test_task_tune",
        "export/",
    )

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(REPOSITORY / "tests").as_posix()
        return next((number for number, start in enumerate(first) if path.startswith(start)), len(first))

    items.sort(key=place)  # a stable sort: the rest stays as it is


@pytest.fixture(autouse=True)
def subnormal_numbers() -> None:
    """As every thread starts out: a session that ran in this one before has left it flushing them to zero (docs/log.md)."""
    default = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc
    ctypes.CDLL(ctypes.util.find_library("m")).fesetenv(default)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real 135M teacher, a GGUF file."""
    try:
        return find_teacher("smollm2-135m-instruct").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Path]:
    """The folder of that name, filled by the first of the workers that needs it; nobody may change it. Args: name, how it is filled."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, fill: Callable[[Path], Any]) -> Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                staging = tmp_path_factory.mktemp(name)
                fill(staging)
                staging.rename(shared / name)
        return shared / name

    return folder


@pytest.fixture(scope="session")
def half_floats(smollm2: Path, made_once: Callable[..., Path]) -> Path:
    """The real teacher unpacked to 16-bit floats, in which rounding is small."""
    import llama_cpp

    def fill(folder: Path) -> None:
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_F16, True, 2
        target = str(folder / "f16.gguf").encode()
        assert llama_cpp.llama_model_quantize(str(smollm2).encode(), target, ctypes.byref(params)) == 0

    return made_once("half_floats", fill) / "f16.gguf"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real backbone, an encoder folder."""
    try:
        return find_backbone("all-minilm-l6-v2").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def tiny_models(smollm2: Path, made_once: Callable[..., Path]) -> dict[str, Path]:
    """A random model of a megabyte or two for each kind of memory that llama.cpp has, by the names of `support.teachers.tiny_gguf.KINDS`; and an `encoder`."""
    from support.teachers.tiny_gguf import KINDS, write_tiny_models  # a session without such tests need not read the vocabulary

    folder = made_once("tiny_models", lambda folder: write_tiny_models(smollm2, folder))
    return {kind: folder / f"{kind}.gguf" for kind in (*KINDS, "encoder")}


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def console() -> list[str]:
    """The command line of the real console: `subprocess.run([*console, "task", ...])`, from any folder."""
    start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from potstill.commands.main import main; main()"
    return [sys.executable, "-c", start]


@pytest.fixture
def stored(tmp_path: Path):
    """A function that fills a real label store with made-up paths, and returns it with its run.

    Its arguments: for each text the (variant, probability of every label) of its paths, one word a label; gold labels and texts by text id;
    settings of the run that differ from two labels, up and down, asked directly.
    """
    opened = []

    def fill(table, gold=None, texts=None, **settings):
        defaults = {
            "task_digest": "t", "prompt_digest": "p", "labels": ["up", "down"], "teacher": "m", "teacher_digest": "d" * 64,
            "source_digest": "d", "build": "b", "mode": "direct", "n_variants": 8, "temperature": 0.5, "max_rationale_tokens": 40, "seed": 0,
        }  # fmt: skip
        values = {**defaults, **settings}
        words = values.setdefault("words", values["labels"])
        values.setdefault("word_labels", list(range(len(words))))
        store = LabelStore.create(tmp_path / "labels.db")
        opened.append(store)
        run = store.begin_run(RunSettings(**values))
        store.add_texts([Text((texts or {}).get(i, f"text {i}"), i, gold=(gold or {}).get(i)) for i in table])
        paths = []
        for text_id, own in table.items():
            for number, (variant, probs) in enumerate(own):
                seed = path_seed(run.settings.seed, text_id, number)
                logprobs = tuple(math.log(p) for p in probs)
                paths.append(TeacherPath(text_id, number, variant, seed, "", logprobs, 5, 0 if values["mode"] == "direct" else 7))
        store.add(run, paths)
        return store, run

    yield fill
    for store in opened:
        store.close()


class RuledTeacher:
    """Answers from a rule, and remembers what it was asked: for rules under test that are about prompts and votes."""

    def __init__(self, rule: Callable[[str, int], Sequence[float]], chat_template: str = "") -> None:
        """Args: rule, from a whole prompt and the path's number to the log-probability of every label word."""
        self._rule, self._chat_template = rule, chat_template
        self.asked: list[tuple[str, int, int]] = []  # (text id, variant, path) of every path drawn
        self.prompts: dict[tuple[str, int], str] = {}  # by text id and variant

    @property
    def identity(self) -> Identity:
        return Identity("rule", "d", "d", "build 1", self._chat_template)

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        n_generated = 0 if spec.mode == "direct" else 7
        for request in requests:
            prompt = self.prompts[request.text_id, variant] = prefix + request.prompt + spec.tail
            for path in request.paths:
                self.asked.append((request.text_id, variant, path))
                seed, logprobs = path_seed(run_seed, request.text_id, path), tuple(self._rule(prompt, path))
                yield TeacherPath(request.text_id, path, variant, seed, "", logprobs, len(request.prompt), n_generated)

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def ruled_teacher() -> type[RuledTeacher]:
    """The class of teachers that answer from a rule."""
    return RuledTeacher


@pytest.fixture(autouse=True)
def torch_threads():
    """Torch keeps to this worker's threads, where a test has imported it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


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
            disable_nagle_algorithm = True  # or a reply's content waits 40 ms for the client to acknowledge its head

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
