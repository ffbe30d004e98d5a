from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import signal
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.errors import UserError
from potstill.contract.questions.decision import Conformal
from potstill.serve.http.application.asgi_app import AppDependencies, Application
from potstill.serve.http.config import BundleSpec
from potstill.serve.http.hosting.bundle_registry import BundleRegistry
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    conformal = Conformal(coverage=0.8, quantile=1.0, n=20, source="gold")
    return {
        "plain": write_bundle(root / "plain", thresholds={"up": 0.99, "flat": None}),
        "pairs": write_bundle(root / "pairs", target=True),
        "sets": write_bundle(root / "sets", conformal=conformal),
    }


@pytest.fixture(scope="module")
def server(folders):
    with ServerProcess(*[f"{name}={folder}" for name, folder in folders.items()]) as server:
        yield server


@pytest.fixture(scope="module")
def classifier(folders):
    with Classifier.open(folders["plain"]) as classifier:
        yield classifier


TEXTS = ["the price will rise", "fall", "", "\N{ROCKET}", "stay " * 100, "\0"]


def test_the_server_gives_the_answers_of_the_classifier_in_order(server, classifier):
    status, body = server.classify(texts=TEXTS)
    assert status == 200
    for found, expected in zip(body["answers"], classifier.classify(TEXTS), strict=True):
        assert (found["label"], found["probs"], found["abstain"]) == (expected.label, expected.probs, expected.abstain)
    assert body["bundle"] == "plain" and len(body["version"]) == 12


def test_one_text_has_one_answer_with_its_threshold(server, classifier):
    thresholds = {"up": 0.99, "flat": None, "down": 0.0}
    for text in ("the price will rise", "fall", "rise", "a", "z", "stay stay"):
        status, body = server.classify(text=text)
        answer = body["answer"]
        assert status == 200 and "answers" not in body and "timing" not in body
        assert answer["threshold"] == thresholds[answer["label"]]
        least = 2 if answer["threshold"] is None else answer["threshold"]
        assert answer["abstain"] == (answer["probs"][answer["label"]] < least)


def test_half_a_surrogate_pair_is_read_as_an_unreadable_character(server, classifier):
    status, body, _ = server.ask("POST", "/classify", b'{"text": "rise \\ud83d fall"}')
    assert status == 200
    assert json.loads(body)["answer"]["probs"] == classifier.classify(["rise \ufffd fall"])[0].probs


def test_another_bundle_answers_at_its_own_path(server):
    status, body = server.post("/bundles/pairs/classify", {"text": "rise", "target": "fall"})
    assert (status, body["bundle"]) == (200, "pairs")
    other = server.post("/bundles/pairs/classify", {"texts": ["rise"], "targets": ["stay"]})[1]
    assert other["answers"][0]["probs"] != body["answer"]["probs"]
    status, body = server.post("/bundles/none/classify", {"text": "rise"})
    assert (status, body["error"]) == (404, "unknown bundle; the bundles are plain, pairs, sets")


def test_label_sets_come_with_the_answers_on_request(server):
    status, body = server.classify(text="rise", sets=True)
    assert status == 422 and body["error"].startswith("label sets are asked for, but this bundle has no conformal quantile")
    assert server.post("/bundles/sets/classify", {"text": "rise", "sets": True})[1]["answer"]["label_set"] == LABELS
    assert "label_set" not in server.post("/bundles/sets/classify", {"text": "rise"})[1]["answer"]


def test_timing_is_in_the_reply_on_request_and_always_in_a_header(server):
    status, body, headers = server.ask("POST", "/classify", b'{"text": "the price", "timing": true}')
    timing = json.loads(body)["timing"]
    assert status == 200 and timing["n_tokens"] == 4  # [CLS] the price [SEP]
    named = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    assert list(named) == ["queue", "tokenize", "infer", "total"]
    assert timing["tokenize_ms"] > 0 and timing["infer_ms"] > 0
    assert float(named["total"]) + 0.001 >= timing["tokenize_ms"] + timing["infer_ms"]


def test_concurrent_requests_get_their_own_answers(server, classifier):
    texts = [f"{word} {'!' * n}" for n in range(10) for word in ("rise", "fall", "stay")]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: server.classify(text=text)[1]["answer"]["probs"], texts))
    assert found == [answer.probs for answer in classifier.classify(texts)]


def test_a_connection_carries_many_requests(server):
    connection = server.connect()
    for _ in range(50):
        connection.request("POST", "/classify", b'{"text": "rise"}')
        assert connection.getresponse().read().startswith(b'{"bundle":"plain"')
    connection.close()


@pytest.mark.parametrize(("path", "status"), [("/livez", "alive"), ("/readyz", "ready")])
def test_a_running_server_is_alive_and_ready(server, path, status):
    found, body, headers = server.ask("GET", path)
    assert (found, json.loads(body)["status"], headers["content-type"]) == (200, status, "application/json")
    assert server.ask("HEAD", path)[:2] == (200, b"")


def test_the_bundles_are_described(server):
    plain, pairs, _ = json.loads(server.ask("GET", "/bundles")[1])["bundles"]
    assert (plain["bundle"], plain["labels"], plain["target"], plain["max_tokens"]) == ("plain", LABELS, False, 16)
    assert plain["thresholds"] == {"up": 0.99, "flat": None, "down": 0.0}
    assert pairs["target"] and pairs["examples"][0] == {"text": "the price will rise!", "target": "the price"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/nothing", b"", 404, "unknown path; the paths are /classify, /predict, /v1/decisions, /bundles, /livez,"),
        ("GET", "/classify", b"", 405, "/classify accepts POST, not GET"),
        ("POST", "/livez", b"", 405, "/livez accepts GET, HEAD, not POST"),
        ("POST", "/classify", b"", 400, "the body is not valid JSON"),
        ("POST", "/classify", b"{", 400, "the body is not valid JSON"),
        ("POST", "/classify", b"\xff\xfe", 400, "the body is not valid JSON"),
        ("POST", "/classify", b'{"text": "\xff"}', 400, "the body is not valid JSON"),
        ("POST", "/classify", b"[" * 100_000, 422, "Expected `object`, got `array`"),
        ("POST", "/classify", b'{"text": ' + b"[" * 100_000, 422, "Expected `str`, got `array` - at `$.text`"),
        ("POST", "/classify", b"[]", 422, "Expected `object`, got `array`"),
        ("POST", "/classify", b"{}", 422, "neither text nor texts is given; give one of them"),
        ("POST", "/classify", b'{"text": "a", "texts": ["a"]}', 422, "both text and texts are given; give one of them"),
        ("POST", "/classify", b'{"texts": "rise"}', 422, "Expected `array`, got `str` - at `$.texts`"),
        ("POST", "/classify", b'{"texts": [1]}', 422, "Expected `str`, got `int` - at `$.texts[0]`"),
        ("POST", "/classify", b'{"texts": ["a"], "more": "a"}', 422, "Object contains unknown field `more`"),
        ("POST", "/classify", b'{"texts": []}', 422, "texts has 0 entries; 1 to 64 are allowed per request"),
        (
            "POST",
            "/classify",
            json.dumps({"texts": ["a"] * 65}).encode(),
            422,
            "texts has 65 entries; 1 to 64 are allowed per request",
        ),
        ("POST", "/classify", json.dumps({"texts": ["a", "b" * 200_001]}).encode(), 422, "texts[1] has 200001 characters; at most"),
        ("POST", "/classify", b'{"text": "a", "target": "b"}', 422, "targets are given, but this bundle answers without a target"),
        (
            "POST",
            "/classify",
            b'{"texts": ["a"], "target": "b"}',
            422,
            "target is given with texts; give targets, one for each text",
        ),
        ("POST", "/classify", b'{"text": "a", "targets": ["b"]}', 422, "targets is given with text; give target"),
        ("POST", "/classify", b'{"text": "a", "timeout_ms": 0}', 422, "timeout_ms is 0; it must be from 0.001 to 60000"),
        ("POST", "/classify", b'{"text": "a", "timeout_ms": 60001}', 422, "timeout_ms is 60001; it must be from 0.001 to 60000"),
        ("POST", "/classify", b" " * 1_000_001, 413, "the body is larger than 1000000 bytes; send fewer texts at a time"),
        ("POST", "/bundles/pairs/classify", b'{"text": "a"}', 422, "targets are missing"),
        ("POST", "/bundles/pairs/classify", b'{"texts": ["a"], "targets": ["b", "c"]}', 422, "there are 2 targets for 1 texts"),
        (
            "POST",
            "/bundles/pairs/classify",
            json.dumps({"text": "a", "target": "b" * 1001}).encode(),
            422,
            "a target has 1001 characters",
        ),
    ],
)
def test_a_wrong_request_gets_one_line_that_says_what_is_wrong(server, method, path, body, status, message):
    found, answer, headers = server.ask(method, path, body)
    assert found == status
    assert json.loads(answer)["error"].startswith(message)
    assert answer.count(b"\n") == 1 and answer.endswith(b"\n")
    if status == 405:
        assert headers["allow"] in message


def test_a_body_without_a_length_is_counted_as_it_arrives(server):
    def pieces():
        for _ in range(40):
            yield b"x" * 50_000

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", "/classify", pieces(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server closed the connection while the rest was being sent
    finally:
        connection.close()
    assert server.ask("GET", "/livez")[0] == 200


def test_a_server_is_not_ready_before_it_has_started(folders):
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    app = Application(AppDependencies(BundleRegistry.open([BundleSpec(folders["plain"])]), n_workers=1))
    asyncio.run(app({"type": "http", "path": "/readyz", "method": "GET", "headers": []}, receive, send))
    assert sent[0]["status"] == 503 and b"starting" in sent[1]["body"]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(folders, sig):
    with ServerProcess(folders["plain"]) as server:
        assert server.line.startswith("plain at http://127.0.0.1:")
        assert server.classify(text="rise")[0] == 200
        assert server.stop(sig) == 0
        assert server.process.stderr.read() == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_far_too_much_still_reads_the_error(server, chunked):
    piece, n = b"x" * 65_536, 64  # four times what is allowed
    body = (piece for _ in range(n)) if chunked else piece * n
    connection = server.connect()
    connection.request("POST", "/classify", body, encode_chunked=chunked)
    reply = connection.getresponse()
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert json.loads(reply.read()) == {"error": "the body is larger than 1000000 bytes; send fewer texts at a time"}
    connection.close()


@pytest.mark.parametrize("name", ["Support tickets", "\u5ba2\u6237\u610f\u56fe", "3-way stance", "50% off?#"])
def test_a_name_may_have_any_characters_that_a_url_can_escape(folders, name):
    with ServerProcess(f"{name}={folders['plain']}") as server:
        place = quote(name, safe="")
        assert server.post(f"/bundles/{place}/classify", {"text": "rise"})[1]["bundle"] == name
        assert server.ask("GET", f"/v2/models/{place}/ready")[0] == 200
        assert f"/bundles/{place}/classify" in json.loads(server.ask("GET", "/openapi.json")[1])["paths"]
        assert server.count("potstill_labels_total", bundle=name, label="flat", abstain="true") == 1


@pytest.mark.parametrize("name", ["a\x1b[0m", "..", " a", "a" * 101, "a\\b"])
def test_a_name_that_no_url_or_terminal_can_bear_is_refused(folders, name):
    with pytest.raises(UserError, match="cannot be part of a URL; choose one of 1 to 100 characters"):
        BundleRegistry.open([BundleSpec(folders["plain"], name)])


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
def test_a_compressed_body_is_decoded_within_the_limit(server, coding):
    def packed(body):
        return {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "raw deflate": zlib.compress(body)[2:-4]}[coding]

    headers, body = {"Content-Encoding": coding.split()[-1]}, b'{"text": "rise"}'
    assert server.ask("POST", "/classify", packed(body), headers)[0] == 200
    assert server.ask("POST", "/classify", packed(b" " * 50_000_000), headers)[0] == 413
    for damaged in (packed(body)[:-6], body):
        assert server.ask("POST", "/classify", damaged, headers)[0] == 400
    if coding == "gzip":
        assert server.ask("POST", "/classify", packed(body) * 2, headers)[0] == 400


def test_another_coding_is_refused_with_those_that_are_known(server):
    status, _, headers = server.ask("POST", "/classify", b"x", {"Content-Encoding": "br"})
    assert (status, headers["accept-encoding"]) == (415, "gzip, deflate")
