from __future__ import annotations

import json

import pytest
from support.serving import ServerProcess
from support.tiny_bundle import LABELS, write_bundle

from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.protocols import tei
from potstill.serve.runtime.classifier import Classifier

NO_PAIRS = (
    "two strings in one list are a text and its target, and this bundle takes no target; "
    'to send several texts, put each in a list of its own: {"inputs": [["a"], ["b"]]}'
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return {"plain": write_bundle(root / "plain"), "pairs": write_bundle(root / "pairs", target=True)}


@pytest.fixture(scope="module")
def server(folders):
    with ServerProcess(*[f"{name}={folder}" for name, folder in folders.items()]) as server:
        yield server


def test_a_single_text_gets_a_list_of_labels_the_best_first(server, folders):
    status, body = server.post("/predict", {"inputs": "the price will rise"})
    with Classifier.open(folders["plain"]) as classifier:
        (answer,) = classifier.classify(["the price will rise"])
    assert status == 200
    assert [(row["label"], row["score"]) for row in body] == sorted(answer.probs.items(), key=lambda pair: -pair[1])
    assert server.post("/predict", {"inputs": ["the price will rise"]}) == (200, body)


def test_a_batch_gets_a_list_for_each_text_in_order(server):
    batch = server.post("/predict", {"inputs": [["rise"], ["fall"]]})[1]
    assert batch == [server.post("/predict", {"inputs": text})[1] for text in ("rise", "fall")]


def test_raw_scores_are_the_logits(server, folders):
    body = server.post("/predict", {"inputs": "rise", "raw_scores": True})[1]
    with Classifier.open(folders["plain"]) as classifier:
        logits = dict(zip(LABELS, classifier.logits(["rise"])[0].tolist(), strict=True))
    assert {row["label"]: row["score"] for row in body} == logits


def test_a_pair_is_a_text_with_its_target(server):
    status, body = server.post("/bundles/pairs/predict", {"inputs": ["rise", "fall"]})
    own = server.post("/bundles/pairs/classify", {"text": "rise", "target": "fall"})[1]["answer"]["probs"]
    assert status == 200 and {row["label"]: row["score"] for row in body} == own
    assert len(server.post("/bundles/pairs/predict", {"inputs": [["rise", "fall"], ["a", "b"]]})[1]) == 2


def test_a_long_text_is_truncated_unless_the_request_forbids_it(server):
    fits, longer = "rise " * 14, "rise " * 15  # the window has 16 tokens, [CLS] and [SEP] among them
    assert server.post("/predict", {"inputs": longer})[0] == 200
    assert server.post("/predict", {"inputs": fits, "truncate": False})[0] == 200
    status, body = server.post("/predict", {"inputs": longer, "truncate": False})
    assert (status, body["error_type"]) == (413, "Validation")
    assert body["error"] == "Input validation error: `inputs` must have at most 16 tokens. Given: more than 16"


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        (b'{"inputs": ""}', 400, "Empty", "Input validation error: `inputs` cannot be empty"),
        (b'{"inputs": [["a"], [""]]}', 400, "Empty", "Input validation error: `inputs` cannot be empty"),
        (b'{"inputs": []}', 422, "Validation", "inputs must be a string, a pair of strings, or a list of"),
        (b'{"inputs": ["a", "b", "c"]}', 422, "Validation", "inputs must be a string, a pair of strings, or a list of"),
        (b'{"inputs": ["a", ["b"]]}', 422, "Validation", "inputs must be a string, a pair of strings, or a list of"),
        (b'{"inputs": [[]]}', 422, "Validation", "inputs must be a string, a pair of strings, or a list of"),
        (b'{"inputs": ["a", "b"]}', 422, "Validation", NO_PAIRS),
        (b'{"inputs": [["a", "b"], ["c", "d"]]}', 422, "Validation", NO_PAIRS),
        (
            b'{"inputs": [["a"], ["a", "b"]]}',
            422,
            "Validation",
            "some inputs are pairs of text and target and others are not; a bundle takes one kind only",
        ),
        (b'{"inputs": 1}', 422, "Validation", "Expected `str | array`, got `int`"),
        (b"{}", 422, "Validation", "Object missing required field `inputs`"),
        (b"{", 400, "Validation", "the body is not valid JSON"),
        (
            b'{"inputs": "a", "truncation_direction": "up"}',
            422,
            "Validation",
            "Invalid enum value 'up' - at `$.truncation_direction`",
        ),
        (json.dumps({"inputs": [["a"]] * 65}).encode(), 413, "Validation", "batch size 65 > maximum allowed batch size 64"),
    ],
)
def test_errors_have_that_servers_form(server, body, status, kind, message):
    found, answer, _ = server.ask("POST", "/predict", body)
    answer = json.loads(answer)
    assert (found, answer["error_type"]) == (status, kind)
    assert answer["error"].startswith(message)
    assert set(answer) == {"error", "error_type"}


def test_the_last_tokens_are_read_where_the_start_is_truncated(server):
    text, tail = "fall " * 30 + "rise " * 14, "rise " * 14  # the window has 14 words
    expected = server.post("/predict", {"inputs": tail})[1]
    assert server.post("/predict", {"inputs": text, "truncation_direction": "left"})[1] == expected
    assert server.post("/predict", {"inputs": text, "truncation_direction": "Right"})[1] != expected
    long = "fall " * 30_000 + tail
    assert server.post("/predict", {"inputs": [[long], [text]], "truncation_direction": "Left"})[1] == [expected, expected]
    pair = {"inputs": ["fall " * 300 + "rise " * 12, "stay"], "truncation_direction": "left"}
    assert (
        server.post("/bundles/pairs/predict", pair)[1]
        == server.post("/bundles/pairs/predict", {"inputs": ["rise " * 12, "stay"]})[1]
    )


def test_that_servers_other_paths_are_there(server):
    for path in ("/health", "/ping"):
        assert server.ask("GET", path)[:2] == (200, b"")
    info = json.loads(server.ask("GET", "/info")[1])
    assert info["max_input_length"] == 16 and info["model_type"]["classifier"]["id2label"]["0"] == LABELS[0]
    expected = server.post("/predict", {"inputs": "rise"})
    assert (
        expected[0] == 200 and server.post("/", {"inputs": "rise"}) == server.post("/invocations", {"inputs": "rise"}) == expected
    )
    assert server.ask("GET", "/")[2]["content-type"].startswith("text/html")


def test_no_text_is_tokenized_before_its_request_is_admitted(folders, monkeypatch):
    """What is not to be truncated must be counted, which takes long: a worker does it, not the event loop that reads the request."""
    hosted = HostedBundle.open(folders["plain"])

    def count(*_):
        raise AssertionError("a text was tokenized while its request was read")

    monkeypatch.setattr(HostedBundle, "is_truncated", count)
    body = json.dumps({"inputs": "rise " * 3000, "truncate": False}).encode()
    request, _ = tei.read({"headers": []}, body, hosted, Limits())
    assert list(request.texts) == ["rise " * 3000]
