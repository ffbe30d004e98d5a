"""A teacher that converses: the requests that it gets, and the probabilities that are read from its lists, against a known model."""

import math

import numpy as np
import pytest
from support.teachers.many_labels import TASK as MANY
from support.teachers.many_labels import TEXTS as MANY_TEXTS
from support.teachers.many_labels import made_up
from support.teachers.model_servers import CHAT_FIELDS, ToyModel, chat_server
from support.teachers.table_teacher import TASK, TEXTS

from potstill.contract.errors import UserError
from potstill.contract.task import Label
from potstill.labeler.config import LabelConfig, ServerConfig
from potstill.labeler.prompts.variants import Nearest, prompt_variants
from potstill.labeler.teacher import NOT_ASKED, PathRequest, path_seed
from potstill.labeler.teachers.remote import open_remote

pytestmark = pytest.mark.slow

QUICK = ServerConfig(n_tries=2, first_wait_s=0.01, timeout_s=5.0)
UP_OR_DOWN = ToyModel({"positive": 0.6, "negative": 0.3, "I see": 0.1})


@pytest.fixture
def asked(scripted_server):
    """Paths of the first text, as (bodies of the requests, paths, the teacher's identity, what was told)."""
    teachers = []

    def ask(script, words=None, *, api="chat", **config):
        server, told = scripted_server(script), []
        teachers.append(teacher := open_remote(server.url, config=QUICK, api=api, tell=told.append))
        server.requests.clear()
        task = TASK if words is None else _task(words)
        (variant, *_) = prompt_variants(task, LabelConfig(**({"mode": "direct", "n_paths": 1} | config)), teacher.identity)
        request = PathRequest("a", variant.prompt(TEXTS[0]), variant.paths)
        paths = list(teacher.answer(variant.prefix, 0, [request], variant.spec, 0))
        return [body for _, _, body in server.requests], paths, teacher.identity, told

    yield ask
    for teacher in teachers:
        teacher.close()


def _task(words):
    return type(TASK)(
        **{f: getattr(TASK, f) for f in TASK.__struct_fields__} | {"labels": [Label(word, "m") for word in words], "examples": []}
    )


def of_the_text(bodies):
    """The requests about the text, without those about the server."""
    return [body for body in bodies if any(TEXTS[0].text in message["content"] for message in body["messages"])]


def probs(path):
    return np.exp(path.word_logprobs)


def test_worked_examples_are_turns_and_the_label_is_read_from_the_first_token(asked):
    bodies, (path,), identity, _ = asked(chat_server(UP_OR_DOWN))
    (ask, *_) = of_the_text(bodies)
    assert [(message["role"], message["content"]) for message in ask["messages"]] == [
        ("system", "Up or down?\n- positive: u\n- negative: d"),
        ("user", "Text: I buy\nAnswer:"),
        ("assistant", "positive"),
        ("user", "Text: I sell\nAnswer:"),
        ("assistant", "negative"),
        ("user", "Text: text number 0\nAnswer:"),
    ]
    assert (ask["max_tokens"], ask["logprobs"], ask["top_logprobs"]) == (1, True, 20)
    assert identity.build == "toy; chat, 20 likely tokens" and identity.api == "chat"
    assert path.word_logprobs[0] == pytest.approx(math.log(0.6))  # "posi"
    assert path.rationale == "" and path.n_prompt_tokens == 0


def test_a_rationale_is_a_turn_of_its_own_and_the_label_the_next(asked):
    bodies, paths, _, _ = asked(chat_server(UP_OR_DOWN), mode="cot", n_paths=3)
    think = next(body for body in bodies if body.get("n"))
    assert (think["n"], think["temperature"], think["stop"], think["seed"]) == (3, 0.5, ["\n"], path_seed(0, "a", 0))
    assert think["messages"][-1] == {"role": "user", "content": "Text: text number 0\nOpinion:"}
    assert [message["content"] for message in think["messages"][1:5]] == [
        "Text: I buy\nOpinion:",
        "The author buys.",
        "Answer:",
        "positive",
    ]
    read = of_the_text(bodies)[-1]["messages"]
    assert [message["content"] for message in read[-3:]] == ["Text: text number 0\nOpinion:", "Because it is.", "Answer:"]
    assert [path.rationale for path in paths] == ["Because it is."] * 3
    assert {round(probs(path)[0], 3) for path in paths} == {0.6}


def test_an_empty_rationale_makes_no_empty_turn(asked):
    bodies, (path,), _, _ = asked(chat_server(UP_OR_DOWN, rationale="\n"), mode="cot", n_paths=1)
    assert of_the_text(bodies)[-1]["messages"][-1] == {"role": "user", "content": "Text: text number 0\nOpinion:\nAnswer:"}
    assert path.rationale == "" and probs(path)[0] == pytest.approx(0.6)


SCALE = ToyModel({**{str(i): 0.05 for i in range(11)}, "1": 0.2, "10": 0.3, "7": 0.1})


def test_where_a_server_goes_on_from_a_turn_words_of_several_tokens_are_exact(asked):
    words = [str(i) for i in range(11)]
    bodies, (path,), _, _ = asked(chat_server(SCALE, goes_on=True), words)
    np.testing.assert_allclose(probs(path), [SCALE.answers[word] for word in words], rtol=1e-6)
    assert {"role": "assistant", "content": "1"} in [body["messages"][-1] for body in bodies]


def test_where_it_does_not_a_word_is_walked_along_the_models_own_answer(asked):
    words = [str(i) for i in range(11)]
    _, (path,), _, _ = asked(chat_server(SCALE), words)  # its own answer is 10
    np.testing.assert_allclose(probs(path), [SCALE.answers[word] for word in words], rtol=1e-6)


def test_and_beside_its_own_answer_the_first_token_is_the_bound(asked):
    model = ToyModel({"very good": 0.2, "very bad": 0.1, "bad": 0.7})
    _, (path,), _, _ = asked(chat_server(model), ["very good", "very bad", "bad"])
    np.testing.assert_allclose(probs(path), [0.3, 0.3, 0.7], rtol=1e-6)


def test_a_word_that_is_not_listed_has_a_bound_and_not_zero(asked):
    model = ToyModel({"up": 0.6, "left": 0.25, "down": 0.0001} | {f"{a}{b}": 0.1499 / 40 for a in "qrxyz" for b in "abcdefgh"})
    _, (path,), _, _ = asked(chat_server(model), ["up", "down"])
    assert 0.001 < probs(path)[1] < 0.01


def test_fields_that_a_server_takes_turn_thoughts_off(asked):
    fields = CHAT_FIELDS | {"chat_template_kwargs", "reasoning_effort", "top_k", "min_p", "repeat_penalty", "repetition_penalty"}
    bodies, _, _, _ = asked(chat_server(UP_OR_DOWN, allowed=fields))
    assert bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False} and bodies[-1]["reasoning_effort"] == "none"
    bodies, _, _, _ = asked(chat_server(UP_OR_DOWN, allowed=fields - {"reasoning_effort"}))
    assert "chat_template_kwargs" in bodies[-1] and "reasoning_effort" not in bodies[-1]


def test_a_model_of_openai_is_limited_by_its_new_field(asked):
    fields = CHAT_FIELDS - {"max_tokens"}

    def script(path, body):
        if body and "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return 400, {}, {"error": {"message": said}}
        return chat_server(UP_OR_DOWN, allowed=fields)(path, body)

    bodies, (path,), _, _ = asked(script)
    assert of_the_text(bodies)[0]["max_completion_tokens"] == 1 and probs(path)[0] == pytest.approx(0.6)


def test_a_template_without_a_system_role_gets_its_words_in_the_first_turn(asked):
    bodies, _, _, _ = asked(chat_server(UP_OR_DOWN, refuse="system"))
    assert of_the_text(bodies)[0]["messages"][0] == {
        "role": "user",
        "content": "Up or down?\n- positive: u\n- negative: d\n\nText: I buy\nAnswer:",
    }


@pytest.mark.parametrize("message", [{"content": None, "reasoning_content": "Hm"}, {"content": "<think>"}])
def test_a_model_that_thinks_all_the_same_is_refused_as_a_label_in_a_thought_means_nothing(asked, message):
    def script(path, body):
        if path == "/v1/models":
            return chat_server(UP_OR_DOWN)(path, body)
        return 200, {}, {"choices": [{"index": 0, "message": {"role": "assistant", **message}}]}

    with pytest.raises(UserError, match="the model thinks before it answers, and the server does not turn that off"):
        asked(script)


def test_without_lists_the_written_word_is_a_vote_and_that_is_said_with_the_cause(asked):
    def script(path, body):
        if body and body.get("logprobs"):
            return 500, {}, {"error": "Internal Server Error"}
        return chat_server(UP_OR_DOWN, rationale="negative")(path, body)

    _, (path,), identity, told = asked(script)
    assert probs(path)[2] == pytest.approx(0.99)  # after positive and rising
    assert identity.build == "toy; chat, written words only"
    (line,) = told
    assert (
        "lists no likely tokens (500: Internal Server Error, when asked for log-probabilities)" in line and "--method votes" in line
    )


def test_examples_by_similarity_need_a_server_that_continues_texts(asked):
    with pytest.raises(UserError, match="^examples nearest needs a server that continues texts"):
        asked(chat_server(UP_OR_DOWN), examples="nearest")


def test_of_many_labels_the_turn_lists_the_candidates_and_the_system_message_none(scripted_server):
    model = ToyModel({"card blocked": 0.7, "card lost": 0.2, "phone lost": 0.1})
    server = scripted_server(chat_server(model))
    teacher = open_remote(server.url, config=QUICK, api="chat")
    found = Nearest({}, "k", made_up(n_candidates=3))
    (variant, *_) = prompt_variants(MANY, LabelConfig(mode="direct", n_paths=1), teacher.identity, found)
    (path,) = teacher.answer(variant.prefix, 0, [variant.request(MANY_TEXTS[0], (0,))], variant.spec, 0)
    teacher.close()
    body = next(body for _, _, body in reversed(server.requests) if body and MANY_TEXTS[0].text in str(body["messages"]))
    assert body["messages"][0] == {"role": "system", "content": "Of a bank.\nWhat is it?"}
    assert body["messages"][1]["content"].startswith(
        "Possible answers:\n- card not working: the card is not working\n- card blocked"
    )
    asked = {variant.spec.words[place]: value for place, value in enumerate(path.word_logprobs) if value != NOT_ASKED}
    assert set(asked) == {"card lost", "card blocked", "card not working"}
    assert max(asked, key=asked.get) == "card blocked"
