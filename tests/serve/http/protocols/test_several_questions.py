"""A bundle of several questions in every protocol, asked by the clients that people have."""

import asyncio
import json

import msgspec
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from api_fuzz import fuzz
from decision_fuzz import fuzz_decisions
from openai.types import Decision
from support.serving import ServerProcess
from support.tiny_bundle import LABELS, a_familiarity, some_heads, write_bundle

from potstill.contract.questions.head import Head
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

TEXTS = ["stay. stay?", "fall", "", "the price will rise"]
TEXT = TEXTS[0]
NAMES = ["move", "asks", "topics", "sure"]
LEVELS = ["low", "middle", "high"]
KEY = "a-key-of-twenty-letters"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    same = [Head(name=name, kind="choice", labels=["a", "b"]) for name in ("first", "second")]
    truth = [Head(name=name, kind="yesno", labels=["yes", "no"]) for name in ("asks", "buys")]
    never = {"move": {"thresholds": dict.fromkeys(LABELS)}, "asks": {"thresholds": {"yes": None, "no": None}}}
    made = {
        "four": some_heads(), "tags": some_heads()[2:3], "ask": some_heads()[1:2], "same": same, "truth": truth, "never": some_heads(**never),
    }  # fmt: skip
    found = {name: write_bundle(root / name, heads=heads) for name, heads in made.items()}
    return found | {
        "plain": write_bundle(root / "plain"),
        "told": write_bundle(root / "told", 0, 0, a_familiarity(), heads=some_heads()),
    }


@pytest.fixture(scope="module")
def server(folders):
    with ServerProcess(*[f"{name}={folder}" for name, folder in folders.items()]) as server:
        yield server


@pytest.fixture(scope="module")
def answers(folders):
    with Classifier.open(folders["four"]) as classifier:
        return classifier.classify(TEXTS, sets=True)


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client:
        yield client


# potstill's own


def test_a_reply_has_the_answer_to_each_question(server, answers):
    found = server.classify(texts=TEXTS, sets=True)[1]["answers"]
    for reply, answer in zip(found, answers, strict=True):
        assert reply.keys() == {"questions", "abstain", "unfamiliar", "unfamiliarity", "answered_by"}
        assert list(reply["questions"]) == NAMES and reply["abstain"] == answer.abstain
        for name, one in answer.questions.items():
            said = reply["questions"][name]
            expected = {"kind": one.kind, "probs": one.probs, "abstain": one.abstain}
            more = {"tags": one.tags} if one.tags is not None else {"label": one.label, "threshold": one.threshold}
            more |= {} if one.value is None else {"value": one.value}
            assert said == expected | more | ({} if one.label_set is None else {"label_set": one.label_set})


def test_the_list_of_bundles_describes_questions_where_there_are_several(server):
    by_name = {row["bundle"]: row for row in json.loads(server.ask("GET", "/bundles")[1])["bundles"]}
    assert "questions" not in by_name["plain"] and by_name["plain"]["sets"] is False
    four = by_name["four"]
    assert [row["name"] for row in four["questions"]] == NAMES and four["labels"][:2] == ["move/up", "move/flat"] and four["sets"]
    assert four["questions"][2] == {
        "name": "topics", "kind": "tags", "labels": ["news", "chart", "people"], "values": None, "sets": False,
        "thresholds": {"news": 0.5, "chart": 0.95, "people": 0.5},
    }  # fmt: skip
    assert four["questions"][3]["values"] == [0.0, 0.5, 1.0]


def test_label_sets_are_refused_where_no_question_has_them(server):
    status, reply = server.post("/bundles/tags/classify", {"text": TEXT, "sets": True})
    assert status == 422 and "no conformal quantile" in reply["error"]


# text-embeddings-inference


@pytest.mark.parametrize("path", ["/questions/{}/predict", "/bundles/four/questions/{}/predict"])
@pytest.mark.parametrize("name", NAMES)
def test_predict_asks_one_question_by_its_path(server, answers, path, name):
    status, rows = server.post(path.format(name), {"inputs": [[text] for text in TEXTS if text]})
    assert status == 200
    for row, answer in zip(rows, [one for one, text in zip(answers, TEXTS, strict=True) if text], strict=True):
        assert {one["label"]: one["score"] for one in row} == answer.questions[name].probs
        assert [one["score"] for one in row] == sorted(answer.questions[name].probs.values(), reverse=True)


def test_raw_scores_are_the_logits_of_that_question(server, folders):
    rows = server.post("/questions/sure/predict", {"inputs": TEXT, "raw_scores": True})[1]
    with Classifier.open(folders["four"]) as classifier:
        logits = classifier.logits([TEXT])[0]
    assert {one["label"]: one["score"] for one in rows} == dict(zip(LEVELS, logits[-3:].tolist(), strict=True))


@pytest.mark.parametrize("path", ["/predict", "/", "/invocations", "/bundles/four/predict"])
def test_predict_without_a_question_is_an_error_of_that_protocol(server, path):
    assert server.post(path, {"inputs": TEXT}) == (
        422,
        {
            "error": "this bundle answers move, asks, topics, sure; name one of these questions in the path: "
            "/bundles/four/questions/move/predict",
            "error_type": "Validation",
        },
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/questions/color/predict", "unknown question; the questions of this bundle are move, asks, topics, sure"),
        ("/bundles/plain/questions/move/predict", "this bundle has one question, without a name; ask /bundles/plain/predict"),
        ("/bundles/no/questions/move/predict", "unknown bundle; the bundles are four,"),
    ],
)
def test_an_unknown_question_is_an_error_of_that_protocol(server, path, message):
    status, reply = server.post(path, {"inputs": TEXT})
    assert status == 404 and message in reply["error"] and reply["error_type"] == "Validation"


def test_the_only_question_needs_no_path_of_its_own(server):
    alone, by_path = (server.post(f"/bundles/tags/{path}", {"inputs": TEXT}) for path in ("predict", "questions/topics/predict"))
    assert alone == by_path and {row["label"] for row in alone[1]} == {"news", "chart", "people"}


# Open Inference


def tensor(texts):
    made = triton.InferInput("text", [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, dtype=object), binary_data=True)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_the_outputs_of_every_question(server, answers, folders, binary):
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    metadata = client.get_model_metadata("four")
    shapes = {row["name"]: (row["datatype"], row["shape"]) for row in metadata["outputs"]}
    assert shapes == {
        **{f"{what}.{name}": (kind, [-1]) for name in ("move", "asks", "sure") for what, kind in (("label", "BYTES"), ("abstain", "BOOL"))},
        **{f"probs.{name}": ("FP32", [-1, 2 if name == "asks" else 3]) for name in NAMES},
        "holds.topics": ("BOOL", [-1, 3]), "value.sure": ("FP32", [-1]), "logits": ("FP32", [-1, 11]),
    }  # fmt: skip
    assert [row["name"] for row in metadata["parameters"]["questions"]] == NAMES
    requested = [triton.InferRequestedOutput(name, binary_data=binary) for name in shapes]
    found = client.infer("four", [tensor(TEXTS)], outputs=requested)
    for name in NAMES:
        own = [answer.questions[name] for answer in answers]
        np.testing.assert_allclose(found.as_numpy(f"probs.{name}"), [list(one.probs.values()) for one in own], rtol=1e-6)
        if name == "topics":
            assert found.as_numpy("holds.topics").tolist() == [[tag in one.tags for tag in one.probs] for one in own]
            continue
        labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy(f"label.{name}")]
        assert labels == [one.label for one in own]
        assert found.as_numpy(f"abstain.{name}").tolist() == [one.abstain for one in own]
    np.testing.assert_allclose(found.as_numpy("value.sure"), [answer.questions["sure"].value for answer in answers], rtol=1e-6)
    with Classifier.open(folders["four"]) as classifier:
        np.testing.assert_array_equal(found.as_numpy("logits"), classifier.logits(TEXTS))
    client.close()


def test_an_output_that_the_questions_do_not_have_is_refused(server):
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "outputs": [{"name": "label.topics"}]}
    status, reply = server.post("/v2/models/four/infer", body)
    assert status == 400 and reply["error"].startswith("unknown or repeated output 'label.topics'; the outputs are label.move, ")


def test_all_outputs_come_where_none_is_requested(server):
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    found = server.post("/v2/models/told/infer", body)[1]["outputs"]
    listed = json.loads(server.ask("GET", "/v2/models/told")[1])["outputs"]
    assert [(one["name"], one["datatype"]) for one in found] == [(one["name"], one["datatype"]) for one in listed]
    assert [one["name"] for one in found][-3:] == ["logits", "unfamiliar", "unfamiliarity"]


# Decision models


def ask(kind, name=None, options=()):
    key, field = {"choice": ("choices", "value"), "score": ("levels", "label"), "predicate": ("", "")}[kind]
    asked = {"type": kind, "instructions": "?", **({"name": name} if name else {})}
    return asked | ({key: [{field: one} for one in options]} if key else {})


def decide(client, *questions, bundle="four", text=TEXT):
    at = client.with_options(base_url=str(client.base_url).replace("/v1", f"/bundles/{bundle}/v1"))
    return at.decisions.create(model="gpt-6-luna", input=text, questions=questions)


def test_each_kind_is_answered_with_the_bundles_own_probabilities(client, answers):
    asked = [
        ask("choice", "move", ["down", "up", "flat"]), ask("choice", None, LABELS), ask("predicate", "asks"), ask("choice", "asks", [False, True]),
        ask("predicate", "topics/chart"), ask("score", "sure", LEVELS), ask("score", None, LEVELS[::-1]), ask("choice", "sure", LEVELS),
    ]  # fmt: skip
    reply = decide(client, *asked)
    assert isinstance(reply, Decision) and reply.model.startswith("four@") and reply.usage.output_tokens == 0
    named, unnamed, asks, truth, chart, sure, turned, chosen = reply.answers
    move, yes, topics, degree = answers[0].questions.values()
    assert [(p.value, p.probability) for p in named.probabilities] == [(one, move.probs[one]) for one in ("down", "up", "flat")]
    assert (named.choice, named.confidence, unnamed.choice) == (move.label, move.probs[move.label], move.label)
    assert asks.probability == yes.probs["yes"] and chart.probability == topics.probs["chart"]
    assert [(p.value, p.probability) for p in truth.probabilities] == [(False, yes.probs["no"]), (True, yes.probs["yes"])]
    assert [(p.label, p.value, p.probability) for p in sure.probabilities] == [
        (x, i, degree.probs[x]) for i, x in enumerate(LEVELS)
    ]
    assert sure.score == pytest.approx(2 * degree.value) and turned.score == pytest.approx(2 - sure.score)
    assert sure.confidence == turned.confidence == max(degree.probs.values()) and chosen.choice == degree.label
    assert [answer.name for answer in reply.answers] == [question.get("name") for question in asked]


@pytest.mark.parametrize(
    ("bundle", "asked"),
    [
        ("four", ask("predicate")),  # whatever it states
        ("four", ask("predicate", "weather")),
        ("four", ask("predicate", "move")),
        ("four", ask("predicate", "topics")),
        ("four", ask("predicate", "topics/weather")),
        ("four", ask("predicate", "asks/yes")),
        ("four", ask("choice", None, [True, False])),  # the options of any question
        ("four", ask("choice", None, ["yes", "no"])),
        ("four", ask("choice", "move", LEVELS)),  # named, but with the options of another
        ("four", ask("choice", "move", LABELS[:2])),
        ("four", ask("choice", None, [*LABELS, "sideways"])),
        ("four", ask("choice", "topics", ["news", "chart", "people"])),  # a choice is exclusive, tags are not
        ("four", ask("choice", None, ["news", "chart", "people"])),
        ("four", ask("score", "sure", ["low", "high", "middle"])),
        ("four", ask("score", "sure", LEVELS[:2])),
        ("four", ask("score", "sure")),
        ("four", ask("score", None, LABELS)),
        ("same", ask("choice", None, ["a", "b"])),  # two questions have these labels
        ("truth", ask("choice", None, ["yes", "no"])),
        ("plain", ask("score", None, LABELS)),
        ("never", ask("choice", "move", LABELS)),  # abstains
        ("never", ask("predicate", "asks")),
    ],
)
def test_what_no_question_of_the_bundle_surely_is_gets_a_refusal_and_the_others_an_answer(client, bundle, asked):
    good = ask("predicate", "topics/news") if bundle in ("four", "never") else ask("choice", None, LABELS)
    refusal, answer = decide(client, asked, good, bundle=bundle).answers
    assert (refusal.type, refusal.name) == ("refusal", asked.get("name"))
    assert answer.type == ("refusal" if bundle in ("same", "truth") else good["type"])


def test_two_questions_with_the_same_labels_are_told_apart_by_name(client, folders):
    first, second = decide(client, ask("choice", "first", ["a", "b"]), ask("choice", "second", ["b", "a"]), bundle="same").answers
    with Classifier.open(folders["same"]) as classifier:
        one, other = classifier.classify([TEXT])[0].questions.values()
    assert {p.value: p.probability for p in first.probabilities} == one.probs != other.probs
    assert {p.value: p.probability for p in second.probabilities} == other.probs


def test_the_only_question_is_meant_by_the_bundles_name_and_by_yes_and_no(client):
    by_bundle, by_name, by_options = decide(
        client, ask("predicate", "ask"), ask("predicate", "asks"), ask("choice", None, [True, False]), bundle="ask"
    ).answers
    assert by_bundle.probability == by_name.probability == next(p.probability for p in by_options.probabilities if p.value)


def test_an_asynchronous_client_gets_the_same(server, client):
    asked = [ask("choice", "move", LABELS), ask("predicate", "asks"), ask("score", "sure", LEVELS), ask("predicate", "no")]

    async def several():
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1") as other:
            return await asyncio.gather(*[decide(other, *asked) for _ in range(8)])

    assert asyncio.run(several()) == [decide(client, *asked)] * 8


@pytest.mark.parametrize("bundle", ["four", "tags", "ask", "same", "never", "plain"])
def test_random_questions_get_the_bundles_own_probabilities_or_a_refusal_in_openais_types(server, bundle):
    by_name = {row["bundle"]: row for row in json.loads(server.ask("GET", "/bundles")[1])["bundles"]}
    result = fuzz_decisions(server.port, by_name[bundle], n_cases=100)
    assert result.wrong == {}, result.examples
    assert result.n["requests: sound"] == 50 and result.n["answers: refusal"] > 20 and set(result.statuses) <= {200, 400, 422}


# Metrics and the description


def test_metrics_count_the_answers_of_each_question(folders):
    with ServerProcess(f"four={folders['four']}", f"plain={folders['plain']}") as server:
        found = [server.classify(text=text)[1]["answer"]["questions"] for text in TEXTS]
        plain = server.post("/bundles/plain/classify", {"text": TEXT})[1]["answer"]
        metrics = server.metrics()
    counts = {labels: n for (name, labels), n in metrics.items() if name == "potstill_answers_total"}
    expected = {}
    for answer in found:
        for name, one in answer.items():
            for label in one["tags"] or [""] if "tags" in one else [one["label"]]:
                key = (("abstain", str(one["abstain"]).lower()), ("bundle", "four"), ("label", label), ("question", name))
                expected[key] = expected.get(key, 0) + 1
    assert counts == expected
    labels = {key: n for key, n in metrics.items() if key[0] == "potstill_labels_total"}
    assert labels == {("potstill_labels_total", (("abstain", "false"), ("bundle", "plain"), ("label", plain["label"]))): 1}
    assert metrics["potstill_answer_confidence_count", (("bundle", "four"), ("question", "sure"))] == len(TEXTS)


def test_no_request_gets_a_5xx_or_a_reply_that_is_not_described(folders):
    with ServerProcess(f"four={folders['four']}", f"tags={folders['tags']}") as server:
        rows = fuzz(f"http://127.0.0.1:{server.port}", n_cases=300)
        paths = json.loads(server.ask("GET", "/openapi.json")[1])["paths"]
    assert [row.problem for row in rows if row.problem is not None] == []
    assert "/questions/sure/predict" in paths and "/bundles/tags/predict" in paths
    assert "/predict" not in paths and "post" not in paths["/"] and "/bundles/four/predict" not in paths


def test_the_reply_of_one_question_has_the_bytes_that_it_had(server):
    status, body, _ = server.ask("POST", "/bundles/plain/classify", msgspec.json.encode({"text": TEXT}))
    version = json.loads(body)["version"]
    probs = msgspec.json.encode(json.loads(body)["answer"]["probs"]).decode()
    label = json.loads(body)["answer"]["label"]
    assert (status, body.decode()) == (
        200,
        f'{{"bundle":"plain","version":"{version}","answer":{{"label":"{label}","probs":{probs},"threshold":0.0,"abstain":false,'
        '"unfamiliar":null,"unfamiliarity":null,"answered_by":"bundle"}}\n',
    )
