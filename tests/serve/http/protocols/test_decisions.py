"""`/v1/decisions`, asked by the unmodified `openai` client."""

import asyncio
import json

import openai
import pytest
from openai.types import Decision
from support.serving import ServerProcess
from support.tiny_bundle import LABELS, write_bundle

from potstill.serve.http.asgi import Refused
from potstill.serve.http.protocols import decisions
from potstill.serve.runtime.classifier import Classifier

KEY = "a-key-of-twenty-letters"
TEXT = "the price will rise"
STANCE = {
    "type": "choice",
    "name": "stance",
    "instructions": "Where to?",
    "choices": [{"value": name} for name in ("down", "up", "flat")],
}
WEATHER = {"type": "choice", "instructions": "Rain?", "choices": [{"value": "wet"}, {"value": "dry"}]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    made = {"plain": {}, "pairs": {"target": True}, "sure": {"thresholds": dict.fromkeys(LABELS, 1.0)}}
    made |= {"moves": {"labels": ["No", "Yes"]}}
    return {name: write_bundle(root / name, **changes) for name, changes in made.items()}


@pytest.fixture(scope="module")
def server(folders):
    named = [f"{name}={folder}" for name, folder in folders.items()]
    with ServerProcess(*named, env={"POTSTILL_KEYS": KEY}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as client:
        yield client


def at(client, name):
    return client.with_options(base_url=str(client.base_url).replace("/v1", f"/bundles/{name}/v1"))


def decide(client, *questions, text=TEXT):
    return client.decisions.create(model="gpt-6-luna", input=text, questions=questions or [STANCE])


def classified(folder, text=TEXT):
    with Classifier.open(folder) as classifier:
        return classifier.classify([text])[0]


def test_the_client_gets_the_bundles_own_probabilities_in_the_order_of_its_choices(client, folders):
    reply, expected = decide(client), classified(folders["plain"])
    assert isinstance(reply, Decision) and reply.model.startswith("plain@")
    (answer,) = reply.answers
    assert (answer.type, answer.name, answer.choice, answer.confidence) == (
        "choice",
        "stance",
        expected.label,
        max(expected.probs.values()),
    )
    assert [(p.value, p.probability) for p in answer.probabilities] == [
        (name, expected.probs[name]) for name in ("down", "up", "flat")
    ]
    assert reply.usage.input_tokens == reply.usage.total_tokens > 2 and reply.usage.output_tokens == 0


def test_an_asynchronous_client_gets_the_same(server, client):
    async def ask():
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1") as other:
            return await asyncio.gather(*[decide(other) for _ in range(8)])

    assert asyncio.run(ask()) == [decide(client)] * 8


def test_a_question_that_the_bundle_does_not_decide_is_refused_and_the_others_are_answered(client):
    score = {"type": "score", "name": "s", "instructions": "How much?", "levels": [{"label": name} for name in LABELS]}
    likely = {"type": "predicate", "name": "plain", "instructions": "It will rise."}
    more = {**STANCE, "choices": [*STANCE["choices"], {"value": "sideways"}]}
    answers = decide(client, WEATHER, STANCE, score, likely, more, {**STANCE, "choices": STANCE["choices"][:2]}).answers
    assert [answer.type for answer in answers] == ["refusal", "choice", "refusal", "refusal", "refusal", "refusal"]
    assert [answer.name for answer in answers] == [None, "stance", "s", "plain", "stance", "stance"]


def test_a_text_on_which_the_bundle_abstains_is_refused(client):
    assert [answer.type for answer in decide(at(client, "sure")).answers] == ["refusal"]


def test_a_bundle_of_yes_and_no_answers_a_predicate_of_its_name_and_choices_of_true_and_false(client, folders):
    by_name = {"type": "predicate", "name": "moves", "instructions": "It moves."}
    truth = {"type": "choice", "instructions": "Does it?", "choices": [{"value": True}, {"value": False}]}
    predicate, other, choice = decide(at(client, "moves"), by_name, {**by_name, "name": "weather"}, truth).answers
    probs = classified(folders["moves"]).probs
    assert (predicate.type, predicate.probability, other.type) == ("predicate", probs["Yes"], "refusal")
    assert [(p.value, p.probability) for p in choice.probabilities] == [(True, probs["Yes"]), (False, probs["No"])]
    assert choice.choice is (probs["Yes"] > probs["No"])


@pytest.mark.parametrize(
    "said",
    [
        [{"role": "user", "content": TEXT}],
        [{"role": "system", "content": "Be exact."}, {"role": "user", "content": [{"type": "input_text", "text": TEXT}]}],
        [{"role": "user", "content": TEXT}, {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}],
    ],
)
def test_the_text_is_what_the_user_says(client, said):
    assert decide(client, text=said).answers == decide(client).answers


def test_messages_and_json_are_read_in_order(client, folders):
    said = [{"role": "user", "content": [{"type": "input_json", "data": {"price": "rise"}}]}, {"role": "user", "content": "fall"}]
    (answer,) = decide(client, text=said).answers
    assert answer.confidence == max(classified(folders["plain"], '{"price":"rise"}\n\nfall').probs.values())


@pytest.mark.parametrize(
    ("said", "questions", "message"),
    [
        (
            [{"role": "system", "content": "x"}],
            [STANCE],
            "input has no message of the role user; the text to decide about is what the user says",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,x"}]}],
            [STANCE],
            "input has a part of type 'input_image'; this classifier reads input_text and input_json",
        ),
        (TEXT, [], "questions has 0 entries; 1 to 400 are allowed"),
        (TEXT, [{**STANCE, "choices": STANCE["choices"][:1]}], "questions[0].choices has 1 entries; 2 to 255 are allowed"),
        (
            TEXT,
            [STANCE, {**STANCE, "choices": STANCE["choices"] * 2}],
            "questions[1].choices has a value twice; each must be unique",
        ),
        (TEXT, [{**STANCE, "type": "essay"}], "questions[0].type is 'essay'; allowed: choice, predicate, score"),
    ],
)
def test_what_is_no_question_about_a_text_is_an_error_that_the_client_shows(client, said, questions, message):
    with pytest.raises(openai.BadRequestError) as error:
        client.decisions.create(model="gpt-6-luna", input=said, questions=questions)
    assert error.value.body == {"message": message, "type": "invalid_request_error", "param": None, "code": None}


def test_a_bundle_with_targets_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="this API has no field; use /classify"):
        decide(at(client, "pairs"))


def test_a_wrong_key_and_an_unknown_bundle_are_errors_of_their_kind(client):
    with pytest.raises(openai.AuthenticationError, match="unknown API key"):
        decide(client.with_options(api_key="another-key-of-that-length"))
    with pytest.raises(openai.NotFoundError, match="unknown bundle; the bundles are plain, pairs, sure, moves"):
        decide(at(client, "other"))


def test_true_is_not_the_word_true(client):
    words = {"type": "choice", "instructions": "Does it?", "choices": [{"value": "true"}, {"value": True}]}
    assert [answer.type for answer in decide(at(client, "moves"), words).answers] == ["refusal"]


BAD = [
    ({"bundle": "other"}, openai.NotFoundError, 404, "not_found_error"),
    ({"key": "another-key-of-that-length"}, openai.AuthenticationError, 401, "authentication_error"),
    ({"questions": []}, openai.BadRequestError, 400, "invalid_request_error"),
    ({"questions": "all"}, openai.UnprocessableEntityError, 422, "invalid_request_error"),
    ({"text": "a" * 200_001}, openai.UnprocessableEntityError, 422, "invalid_request_error"),
    ({"text": "a" * 1_000_001}, openai.APIStatusError, 413, "invalid_request_error"),
    ({"bundle": "slow"}, openai.RateLimitError, 429, "rate_limit_error"),
]


@pytest.fixture(scope="module")
def busy_server(folders, tmp_path_factory):
    """A server whose second bundle takes longer than any request may."""
    slow = write_bundle(tmp_path_factory.mktemp("slow") / "slow", slow=2500)
    with ServerProcess(f"plain={folders['plain']}", f"slow={slow}", "--timeout-ms", "1", env={"POTSTILL_KEYS": KEY}) as server:
        yield server


def arguments(server, bundle="plain", key=KEY, questions=(STANCE,), text=TEXT):
    """(of a client, of a request)."""
    base = f"http://127.0.0.1:{server.port}/bundles/{bundle}/v1"
    if bundle == "slow":  # one request in five seconds is accepted to test the estimate, so that it is not the next one
        server.post("/bundles/slow/classify", {"text": TEXT}, {"X-API-Key": key})
    return {"api_key": key, "base_url": base, "max_retries": 0}, {"model": "gpt-6-luna", "input": text, "questions": questions}


def check_error(error, status, kind):
    assert (error.status_code, error.body["type"]) == (status, kind) and error.body["message"]
    assert ("retry-after" in error.response.headers) == (status == 429)


@pytest.mark.parametrize(("changes", "kind", "status", "name"), BAD)
@pytest.mark.parametrize("way", ["plain", "raw", "streamed"])
def test_every_error_reaches_the_client_as_its_own_kind(busy_server, changes, kind, status, name, way):
    of_client, of_request = arguments(busy_server, **changes)
    with openai.OpenAI(**of_client) as client, pytest.raises(kind) as error:
        if way == "streamed":
            with client.decisions.with_streaming_response.create(**of_request) as reply:
                reply.read()
        else:
            (client.decisions if way == "plain" else client.decisions.with_raw_response).create(**of_request)
    if way != "streamed":
        check_error(error.value, status, name)
    assert error.value.status_code == status


@pytest.mark.parametrize(("changes", "kind", "status", "name"), BAD)
@pytest.mark.parametrize("streamed", [False, True])
def test_every_error_reaches_the_asynchronous_client(busy_server, changes, kind, status, name, streamed):
    of_client, of_request = arguments(busy_server, **changes)

    async def ask():
        async with openai.AsyncOpenAI(**of_client) as client:
            if not streamed:
                return await client.decisions.create(**of_request)
            async with client.decisions.with_streaming_response.create(**of_request) as reply:
                return await reply.read()

    with pytest.raises(kind) as error:
        asyncio.run(ask())
    if not streamed:
        check_error(error.value, status, name)
    assert error.value.status_code == status


def test_an_overload_is_an_error_with_the_time_to_wait():
    reply = decisions.write_error(Refused(429, "the deadline cannot be met", [(b"retry-after", b"2")]))
    assert (reply.status, reply.headers) == (429, [(b"retry-after", b"2")])
    assert json.loads(reply.body)["error"]["type"] == "rate_limit_error"
