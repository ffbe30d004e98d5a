from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from contract.bundle import Golden, Manifest, Provenance, write_golden, write_manifest, write_sums
from contract.decision import Conformal
from serve.app import create_app
from serve.classifier import Classifier
from serve.limits import Limits
from serve.run import ServeConfig, listen
from serve.session import open_session
from serve.tokenize import Tokenize

LABELS = ["up", "flat", "down"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz!?.", "price", "rise", "fall", "stay", "the", "will"]


def a_graph() -> bytes:
    """Mean of word vectors, and a dense layer: ids int64 [B, T] in, logits float32 [B, 3] out."""
    rng = np.random.default_rng(0)
    weights = {"table": rng.normal(size=(len(WORDS), 8)), "dense": rng.normal(size=(8, 3)), "bias": rng.normal(size=3)}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Gemm", ["mean", "dense", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array([at]), name) for name, at in (("last", 2), ("middle", 1))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def a_tokenizer() -> bytes:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer.to_str().encode()


def a_manifest(**changes) -> Manifest:
    origin = Provenance(
        task_digest="a", teacher_digest="b", backbone="tiny", backbone_digest="c", soft_labels_digest="d", loss="reg", n_train=9
    )
    parts = {
        "format": 1,
        "name": "tiny",
        "labels": LABELS,
        "target": False,
        "max_tokens": 16,
        "temperature": 1.5,
        "thresholds": None,
    }
    return Manifest(**{**parts, "variant": "float", "batch_invariant": True, "scores": {}, "provenance": origin, **changes})


def write_bundle(folder: Path, **changes) -> Path:
    texts = ["the price will rise!", "fall", "stay. stay?"]
    folder.mkdir()
    manifest = a_manifest(**changes)
    (folder / "model.onnx").write_bytes(a_graph())
    (folder / "tokenizer.json").write_bytes(a_tokenizer())
    (folder / "quality.json").write_bytes(b"{}\n")
    write_manifest(folder, manifest)
    tokenize = Tokenize(folder / "tokenizer.json", manifest.max_tokens, ["input_ids", "attention_mask"])
    classifier = Classifier(manifest, tokenize, open_session(folder / "model.onnx"))
    targets = ["the price"] * len(texts) if manifest.target else None
    rows = classifier.probs(texts, targets).tolist()
    target = targets[0] if targets else None
    write_golden(folder, [Golden(text=text, probs=row, target=target) for text, row in zip(texts, rows, strict=True)])
    write_sums(folder)
    return folder


class Server:
    """The application on a real socket, in a thread of this process."""

    def __init__(self, classifier, limits=None):
        app = create_app(classifier, limits=limits, workers=2)
        self.socket = listen(ServeConfig(port=0))
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(app, http="httptools", loop="uvloop", ws="none", log_config=None, access_log=False)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self):
        self.thread.start()
        for _ in range(200):
            if self.server.started:
                return self
            self.thread.join(0.05)
        raise TimeoutError

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()

    def ask(self, method, path, body=b"", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = response.status, response.read(), dict(response.getheaders())
        connection.close()
        return found

    def predict(self, **body):
        status, answer, _ = self.ask("POST", "/predict", json.dumps(body).encode())
        return status, json.loads(answer)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    with Classifier.open(write_bundle(tmp_path_factory.mktemp("app") / "bundle")) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def server(classifier):
    with Server(classifier, Limits(max_body_bytes=20_000, max_texts=8)) as server:
        yield server


@pytest.fixture(scope="module")
def pair_server(tmp_path_factory):
    with (
        Classifier.open(write_bundle(tmp_path_factory.mktemp("pairs") / "bundle", target=True)) as classifier,
        Server(classifier) as server,
    ):
        yield server


def test_the_server_gives_the_answers_of_the_classifier_in_order(server, classifier):
    texts = ["the price will rise", "fall", "", "\N{ROCKET}", "stay " * 100]
    status, body = server.predict(texts=texts)
    assert status == 200
    assert [answer["probs"] for answer in body["answers"]] == [answer.probs for answer in classifier.classify(texts)]
    assert [answer["label"] for answer in body["answers"]] == [answer.label for answer in classifier.classify(texts)]
    assert not any(answer["abstain"] for answer in body["answers"])


def test_label_sets_come_with_the_answers_where_they_are_asked_for(server, tmp_path):
    status, body = server.predict(texts=["rise"], sets=True)
    assert status == 422 and body["error"].startswith("label sets are asked for, but this bundle has no conformal quantile")
    conformal = Conformal(coverage=0.8, quantile=1.0, n=20, source="gold")
    with Classifier.open(write_bundle(tmp_path / "sets", conformal=conformal)) as holder, Server(holder) as other:
        assert other.predict(texts=["rise"], sets=True)[1]["answers"][0]["label_set"] == LABELS
        assert "label_set" not in other.predict(texts=["rise"])[1]["answers"][0]


def test_requests_side_by_side_get_their_own_answers(server, classifier):
    texts = [f"{word} {'!' * n}" for n in range(10) for word in ("rise", "fall", "stay")]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: server.predict(texts=[text])[1]["answers"][0]["probs"], texts))
    assert found == [answer.probs for answer in classifier.classify(texts)]


def test_targets_are_passed_on(pair_server):
    first, second = (pair_server.predict(texts=["rise"], targets=[target])[1]["answers"][0] for target in ("fall", "stay"))
    assert first["probs"] != second["probs"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_running_server_is_alive_and_ready(server, path):
    status, body, headers = server.ask("GET", path)
    assert (status, json.loads(body)["status"], headers["content-type"]) == (
        200,
        path[1:-1].replace("live", "alive"),
        "application/json",
    )
    assert server.ask("HEAD", path)[:2] == (200, b"")


LONG = json.dumps({"texts": ["x" * 30_000]}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/", b"", 404, "there is no /; there are /predict, /livez, /readyz"),
        ("GET", "/predict", b"", 405, "/predict takes POST, not GET"),
        ("POST", "/livez", b"", 405, "/livez takes GET, HEAD, not POST"),
        ("POST", "/predict", b"", 400, "the body is not valid JSON"),
        ("POST", "/predict", b"{", 400, "the body is not valid JSON"),
        ("POST", "/predict", b"\xff\xfe", 400, "the body is not valid JSON"),
        ("POST", "/predict", b'{"texts": ["\xff"]}', 400, "the body is not valid JSON"),
        ("POST", "/predict", b"[" * 10_000, 422, "Expected `object`, got `array`"),
        ("POST", "/predict", b"[]", 422, "Expected `object`, got `array`"),
        ("POST", "/predict", b"{}", 422, "Object missing required field `texts`"),
        ("POST", "/predict", b'{"texts": "rise"}', 422, "Expected `array`, got `str` - at `$.texts`"),
        ("POST", "/predict", b'{"texts": [1]}', 422, "Expected `str`, got `int` - at `$.texts[0]`"),
        ("POST", "/predict", b'{"texts": ["a"], "text": "a"}', 422, "Object contains unknown field `text`"),
        ("POST", "/predict", b'{"texts": []}', 422, "texts holds 0; from 1 to 8 are allowed in one request"),
        (
            "POST",
            "/predict",
            json.dumps({"texts": ["a"] * 9}).encode(),
            422,
            "texts holds 9; from 1 to 8 are allowed in one request",
        ),
        (
            "POST",
            "/predict",
            b'{"texts": ["a"], "targets": ["b"]}',
            422,
            "targets are given, but this bundle answers without a target",
        ),
        ("POST", "/predict", LONG, 413, "the body is larger than 20000 bytes; send fewer texts at a time"),
    ],
)
def test_a_wrong_request_gets_one_line_that_says_what_is_wrong(server, method, path, body, status, message):
    found, answer, headers = server.ask(method, path, body)
    assert found == status
    assert json.loads(answer)["error"].startswith(message)
    assert answer.count(b"\n") == 1 and answer.endswith(b"\n")
    if status == 405:
        assert headers["allow"] in message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"texts": ["a"]}, "targets are missing"),
        ({"texts": ["a"], "targets": ["b", "c"]}, "there are 2 targets for 1 texts"),
        ({"texts": ["a"], "targets": ["b" * 1001]}, "a target has 1001 characters"),
    ],
)
def test_targets_that_do_not_fit_are_unprocessable(pair_server, body, message):
    status, answer = pair_server.predict(**body)
    assert status == 422
    assert answer["error"].startswith(message)


def test_a_body_without_a_length_is_counted_as_it_comes(server):
    def pieces():
        for _ in range(40):
            yield b"x" * 1000

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", "/predict", pieces(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server closed while the rest was still being sent
    finally:
        connection.close()
    assert server.ask("GET", "/livez")[0] == 200


def test_a_client_that_goes_away_harms_nobody(server):
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
    assert server.predict(texts=["rise"])[0] == 200


def test_a_server_is_not_ready_before_it_has_started(classifier):
    import asyncio

    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    app = create_app(classifier, workers=1)
    asyncio.run(app({"type": "http", "path": "/readyz", "method": "GET", "headers": []}, receive, send))
    assert sent[0]["status"] == 503


def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "commands.main", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        line = process.stderr.readline()
        assert line.startswith("tiny answers at http://127.0.0.1:")
        port = int(line.split("/predict")[0].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/predict", b'{"texts": ["rise"]}')
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
