from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton
from support.serving import ServerProcess
from support.tiny_bundle import LABELS, a_familiarity, write_bundle
from tritonclient.utils import InferenceServerException

TEXTS = ["the price will rise", "fall", "", "\N{ROCKET} \u05d0"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    plain, pairs = write_bundle(root / "plain"), write_bundle(root / "pairs", target=True)
    told = write_bundle(root / "told", familiarity=a_familiarity())
    with ServerProcess(f"plain={plain}", f"pairs={pairs}", f"told={told}") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def tensor(name, texts, shape=None, *, binary=True):
    made = triton.InferInput(name, shape or [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, dtype=object).reshape(shape or [len(texts)]), binary_data=binary)
    return made


def request(**changes):
    one = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **changes}
    return {"inputs": [{key: value for key, value in one.items() if value is not None}]}


def test_tritons_client_finds_everything_live_and_ready(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("plain")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("pairs")
    assert [row["name"] for row in metadata["inputs"]] == ["text", "target"]
    assert metadata["outputs"][1] == {"name": "probs", "datatype": "FP32", "shape": [-1, 3]}
    assert client.is_model_ready("plain", client.get_model_metadata("plain")["versions"][0])
    assert not client.is_model_ready("none") and not client.is_model_ready("plain", "other")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_the_answers_in_binary_and_in_json(server, client, binary_in, binary_out):
    names = ["label", "probs", "abstain", "logits"]
    requested = None if binary_out is None else [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    found = client.infer("plain", [tensor("text", TEXTS, binary=binary_in)], outputs=requested, request_id="7")
    own = server.classify(texts=TEXTS)[1]["answers"]
    labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("label")]
    assert labels == [answer["label"] for answer in own]
    np.testing.assert_allclose(found.as_numpy("probs"), [list(answer["probs"].values()) for answer in own], rtol=1e-6)
    assert found.as_numpy("abstain").tolist() == [False] * 4
    assert found.get_response()["id"] == "7" and found.get_response()["model_name"] == "plain"
    logits = found.as_numpy("logits").astype(float) / 1.5  # the temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found.as_numpy("probs"), weights / weights.sum(axis=1, keepdims=True), rtol=1e-5)
    assert [row["name"] for row in found.get_response()["outputs"]] == names  # all that the metadata lists, if none is requested


def test_a_bundle_that_can_tell_unfamiliar_texts_has_two_outputs_more(server, client):
    texts = ["the price will rise", "zzz qqq"]
    found = client.infer("told", [tensor("text", texts)])
    assert found.as_numpy("unfamiliar").tolist() == [False, True]
    own = server.post("/bundles/told/classify", {"texts": texts})[1]["answers"]
    assert [answer["unfamiliar"] for answer in own] == [False, True]
    np.testing.assert_allclose(found.as_numpy("unfamiliarity"), [-4 / 6, 0.7 * 2 / 4], rtol=1e-6)
    shapes = {row["name"]: row["shape"] for row in client.get_model_metadata("told")["outputs"]}
    assert shapes["unfamiliar"] == shapes["unfamiliarity"] == [-1]
    body = {**request(), "outputs": [{"name": "unfamiliar"}]}
    status, refused = server.post("/v2/models/plain/infer", body)
    assert status == 400 and "the outputs are label, probs, abstain, logits, each" in refused["error"]
    assert server.post("/v2/models/told/infer", body)[1]["outputs"][0] == {
        "name": "unfamiliar", "datatype": "BOOL", "shape": [1], "data": [True],
    }  # fmt: skip


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_tritons_client_may_compress_what_it_sends(server, client, coding):
    found = client.infer("plain", [tensor("text", TEXTS)], request_compression_algorithm=coding)
    own = server.classify(texts=TEXTS)[1]["answers"]
    np.testing.assert_allclose(found.as_numpy("probs"), [list(answer["probs"].values()) for answer in own], rtol=1e-6)


def test_null_stands_for_what_is_left_out(server):
    nothing = {"id": None, "parameters": None, "outputs": None}
    expected = server.post("/v2/models/plain/infer", request())
    assert expected[0] == 200 and server.post("/v2/models/plain/infer", {**request(parameters={}), **nothing}) == expected
    settings = {"timeout": None, "binary_data_output": None}
    outputs = [{"name": "label", "parameters": None}, {"name": "probs", "parameters": {"binary_data": None}}]
    status, body = server.post("/v2/models/plain/infer", {**request(), "parameters": settings, "outputs": outputs})
    assert status == 200 and body["outputs"] == expected[1]["outputs"][:2]


@pytest.mark.parametrize(
    "value",
    [
        request(shape=[9_999_999_999_999_999_999] * 40_000),
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [[{}] * 200_000]}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [[]] * 200_000}]},
        {"inputs": [{"name": "x" * 900_000, "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
        {**request(), "outputs": [{"name": "label"}] * 40_000},
    ],
    ids=["sizes", "objects", "lists", "a name", "outputs"],
)
def test_a_hostile_request_is_refused_briefly_and_before_it_costs_anything(server, value):
    status, body = server.post("/v2/models/plain/infer", value)
    assert status in (400, 422) and len(body["error"]) < 1000


def test_an_unknown_key_is_not_echoed_whole(server):
    status, body = server.classify(text="a", **{"k" * 900_000: 1})
    assert status == 422 and body["error"].startswith("Object contains unknown field `kkk") and len(body["error"]) < 1000


def test_a_column_of_texts_and_targets_is_taken_too(server, client):
    inputs = [tensor("text", ["rise", "rise"], [2, 1]), tensor("target", ["fall", "stay"], [2, 1])]
    probs = client.infer("pairs", inputs).as_numpy("probs")
    own = server.post("/bundles/pairs/classify", {"texts": ["rise", "rise"], "targets": ["fall", "stay"]})[1]["answers"]
    np.testing.assert_allclose(probs, [list(answer["probs"].values()) for answer in own], rtol=1e-6)


def test_tritons_client_gets_the_error_message(client):
    with pytest.raises(InferenceServerException, match="unknown bundle; the bundles are plain, pairs"):
        client.infer("none", [tensor("text", ["a"])])
    with pytest.raises(InferenceServerException, match="the classification extension is not supported"):
        client.infer("plain", [tensor("text", ["a"])], outputs=[triton.InferRequestedOutput("label", class_count=2)])
    with pytest.raises(InferenceServerException, match="an estimated 0 ms to wait"):
        client.infer("plain", [tensor("text", ["a"])], timeout=1)  # a microsecond


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (request(datatype="FP32"), "input 'text' has datatype FP32; BYTES is expected"),
        (request(shape=[2]), "input 'text' has shape [2] but 1 elements"),
        (request(shape=[-1]), "Expected `int` >= 0 - at `$.inputs[0].shape[0]`"),
        (request(shape=[1] * 9), "the shape of input 'text' has 9 sizes; at most 8 are allowed"),
        (request(data=[1]), "the data of input 'text' may only be strings and lists of strings: Expected `str | array`, got `int`"),
        (request(data=[[]] * 10_001), "input 'text' has more than 10000 lists"),
        (request(data="a"), "the data of input 'text' may only be strings and lists of strings: Expected `array`, got `str`"),
        (request(data=None), "input 'text' has neither data nor binary_data_size"),
        (request(name="other"), "unknown or repeated input 'other'; the inputs are 'text' and, with a target, 'target'"),
        (request(parameters={"binary_data_size": 3}), "input 'text' must have either data or a binary_data_size"),
        (
            request(data=None, parameters={"binary_data_size": 3}),
            "the binary_data_size of input 'text' exceeds the 0 bytes that are left",
        ),
        ({"inputs": []}, "the input 'text' is missing"),
        (
            {**request(), "outputs": [{"name": "other"}]},
            "unknown or repeated output 'other'; the outputs are label, probs, abstain",
        ),
        ({**request(), "parameters": {"timeout": "soon"}}, "Expected `float | null`, got `str` - at `$.parameters.timeout`"),
        (
            {**request(), "parameters": {"binary_data_output": []}},
            "Expected `bool | null`, got `array` - at `$.parameters.binary_data",
        ),
        (
            {**request(), "outputs": [{"name": "probs", "parameters": {"binary_data": 1}}]},
            "Expected `bool | null`, got `int` - at `$.outputs[",
        ),
        ({**request(), "parameters": {"timeout": -1}}, "timeout_ms is -0.001; it must be from 0.001 to"),
        ({"inputs": 1}, "Expected `array`, got `int` - at `$.inputs`"),
        (
            request(data=[[[[[[[[[["a"]]]]]]]]]]),
            "the data of input 'text' may only be strings and lists of strings: Expected `str`",
        ),
    ],
)
def test_an_invalid_request_is_refused_with_400(server, value, message):
    status, body = server.post("/v2/models/plain/infer", value)
    assert status == 400 and body["error"].startswith(message)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b'["half \\ud83d"]', 200),
        (b'[["half \\ud83d"]]', 200),
        (b'["\xa9 is no UTF-8"]', 400),
        (b'[["\xa9 is no UTF-8"]]', 400),
        (b'["\\x is no escape"]', 400),
    ],
)
def test_strings_that_are_no_text_are_read_as_elsewhere_or_refused(server, data, read):
    body = json.dumps(request(data="HERE")).encode().replace(b'"HERE"', data)
    status, answer, _ = server.ask("POST", "/v2/models/plain/infer", body)
    assert status == read, answer
    if read == 400:
        assert " is not valid JSON: " in json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\x01", "input 'text' ends inside the length of an element"),
        (struct.pack("<I", 9) + b"ab", "input 'text' has an element of 9 bytes, but only 2 are left"),
        (struct.pack("<I", 1) + b"\xff", "input 'text' is not valid UTF-8: invalid start byte at offset 0"),
    ],
)
def test_broken_binary_is_refused(server, tail, message):
    head = json.dumps(request(data=None, parameters={"binary_data_size": len(tail)})).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, body, _ = server.ask("POST", "/v2/models/plain/infer", head + tail, headers)
    assert status == 400 and json.loads(body)["error"].startswith(message)
    status, body, _ = server.ask("POST", "/v2/models/plain/infer", head + tail + b"x", headers)
    assert status == 400


@pytest.mark.parametrize("length", ["x", "-1", "100000", "9" * 30])
def test_an_invalid_length_of_the_json_is_refused(server, length):
    headers = {"Inference-Header-Content-Length": length}
    assert server.post("/v2/models/plain/infer", request(), headers)[0] == 400


def test_labels_are_in_the_metadata(client):
    assert client.get_model_metadata("plain")["parameters"]["labels"] == LABELS
