"""Which way a server is asked, and Ollama's own."""

import numpy as np
import pytest
from support.teachers.model_servers import ToyModel, chat_server, ollama_server
from support.teachers.table_teacher import TASK, TEXTS

from potstill.contract.errors import UserError
from potstill.labeler.config import LabelConfig, ServerConfig
from potstill.labeler.prompts.variants import prompt_variants
from potstill.labeler.run.label import run_settings
from potstill.labeler.teacher import PathRequest, TooLong
from potstill.labeler.teachers.remote import open_remote

pytestmark = pytest.mark.slow

QUICK = ServerConfig(n_tries=3, first_wait_s=0.01, timeout_s=5.0)
UP_OR_DOWN = ToyModel({" positive": 0.6, " negative": 0.3, " I see": 0.1})


@pytest.fixture
def opened(scripted_server):
    teachers = []

    def start(script, *, below="/v1", **options):
        server, told = scripted_server(script), []
        teachers.append(open_remote(server.host + below, config=QUICK, tell=told.append, **options))
        return server, teachers[-1], told

    yield start
    for teacher in teachers:
        teacher.close()


def answers(teacher, mode="direct", text=None):
    config = LabelConfig(mode=mode, n_paths=2 if mode == "cot" else 1)
    (variant,) = prompt_variants(TASK, config, teacher.identity)
    request = PathRequest("a", text or variant.prompt(TEXTS[0]), variant.paths)
    return list(teacher.answer(variant.prefix, 0, [request], variant.spec, 0))


def completing(listed=True, status=200, error="", max_length=100):
    """A server of `/completions` alone."""

    def script(path, body):
        if path == "/v1/models":
            return 200, {"Server": "s"}, {"data": [{"id": "m"}]}
        if path != "/v1/completions":
            return 404, {}, {"detail": "Not Found"}
        if body.get("logprobs", 0) > max_length:
            return status, {}, {"error": error}
        lists = {"tokens": ["x"], "top_logprobs": [{" positive": -0.5}]} if listed and body.get("logprobs") else None
        return 200, {}, {"choices": [{"text": " positive", "index": 0, "logprobs": lists}]}

    return script


# Ollama


def test_ollama_is_asked_at_its_own_address_with_the_plain_prompt_and_nothing_around_it(opened):
    server, teacher, told = opened(ollama_server(UP_OR_DOWN))
    assert told == [f"{server.url}: asked by api ollama (raw, 20 likely tokens); /completions: lists no tokens"]
    assert teacher.identity.build == "ollama 0.35.1; raw, 20 likely tokens"
    server.requests.clear()
    (path,) = answers(teacher)
    assert np.exp(path.word_logprobs[0]) == pytest.approx(0.6) and np.exp(path.word_logprobs[2]) == pytest.approx(0.3)
    bodies = [body for _, _, body in server.requests]
    assert bodies[1]["prompt"].startswith("Up or down?\n- positive: u\n") and bodies[1]["prompt"].endswith(
        "Text: text number 0\nAnswer:"
    )
    assert all(body["raw"] and body["truncate"] is False for body in bodies)
    assert bodies[1]["options"]["top_k"] == 0  # a list of what a filter leaves would not be the model's own


def test_ollamas_rationales_are_drawn_one_by_one_each_with_its_own_seed(opened):
    server, teacher, _ = opened(ollama_server(UP_OR_DOWN))
    server.requests.clear()
    paths = answers(teacher, "cot")
    thoughts = [
        body["options"] for _, _, body in server.requests if not body.get("logprobs") and body["options"]["num_predict"] > 1
    ]
    assert len(thoughts) == len({options["seed"] for options in thoughts}) == 2 == len(paths)
    assert {options["top_k"] for options in thoughts} == {40}


def test_a_prompt_that_ollama_would_cut_in_silence_is_refused_and_the_text_counted(opened):
    _, teacher, _ = opened(ollama_server(UP_OR_DOWN))
    assert isinstance(answers(teacher, text="word " * 500)[0], TooLong)


def test_ollama_is_found_with_and_without_v1_and_a_model_without_its_tag(opened):
    for below in ("", "/", "/v1", "/v1/"):
        _, teacher, _ = opened(ollama_server(UP_OR_DOWN), below=below, model="toy")
        assert teacher.identity.api == "ollama" and len({teacher.identity.digest}) == 1


def test_an_ollama_before_lists_gives_votes_and_that_is_said(opened):
    _, teacher, told = opened(ollama_server(UP_OR_DOWN, lists=False))
    assert teacher.identity.build.endswith("written words only")
    assert "lists no likely tokens, so a path is a vote" in told[0]


# The choice


def test_a_server_that_completes_texts_with_lists_is_asked_so_without_a_further_request_or_a_word(opened):
    server, teacher, told = opened(completing())
    assert teacher.identity.api == "completions" and told == []
    assert [path for path, _, _ in server.requests] == ["/v1/models", "/v1/completions"]


def test_a_server_that_only_converses_is_asked_so(opened):
    _, teacher, told = opened(chat_server(ToyModel({"positive": 1.0})))
    assert teacher.identity.api == "chat"
    assert "asked by api chat (chat, 20 likely tokens); /completions: 404:" in told[0]


def test_the_run_record_shows_the_api_unless_it_is_the_one_that_there_always_was(opened):
    config = LabelConfig(mode="direct", n_paths=1)
    for script, api in (
        (completing(), ""),
        (chat_server(ToyModel({"positive": 1.0})), "chat"),
        (ollama_server(UP_OR_DOWN), "ollama"),
    ):
        _, teacher, _ = opened(script)
        assert run_settings(TASK, prompt_variants(TASK, config, teacher.identity), teacher, config).api == api


def test_an_api_that_the_server_lacks_is_refused_in_one_line(opened):
    with pytest.raises(UserError) as error:
        opened(completing(), api="ollama")
    assert str(error.value).endswith("/api/generate answers 404: Not Found); try api auto")
    with pytest.raises(UserError, match="^api is 'guess'; allowed: auto, completions, chat, ollama, decisions, systemone$"):
        opened(completing(), api="guess")


def test_a_server_that_can_do_nothing_of_all_that_says_what_each_way_answered(opened):
    def embeddings(path, body):
        return (200, {}, {"data": [{"id": "bge"}]}) if path == "/v1/models" else (404, {}, {"detail": "Not Found"})

    with pytest.raises(UserError) as error:
        opened(embeddings)
    said = str(error.value)
    assert "model 'bge' can be asked in no known way (/completions: 404: Not Found; /api/generate: 404: Not Found;" in said


@pytest.mark.parametrize("models", [(200, {}, {"data": []}), (200, {}, {"data": None}), (404, {}, b"not here"), (501, {}, b"")])
def test_a_model_that_is_loaded_on_demand_needs_no_place_in_the_list(opened, models):
    def script(path, body):
        return models if path.endswith("/models") else completing()(path, body)

    server, teacher, _ = opened(script, model="m7")
    assert teacher.identity.name == "m7"
    assert server.completions()[0]["model"] == "m7"


@pytest.mark.parametrize("script", [completing(), ollama_server(UP_OR_DOWN)])
def test_a_chat_template_that_the_server_does_not_tell_is_asked_for_by_chat(opened, script):
    _, teacher, _ = opened(script)
    with pytest.raises(
        UserError, match="does not tell its model's chat template; use --api chat, in which the server writes the conv"
    ):
        prompt_variants(TASK, LabelConfig(template="chat"), teacher.identity)


# Lists that a server has trouble with


def test_a_server_that_fails_when_log_probabilities_are_asked_for_costs_a_moment_and_the_cause_is_said(opened):
    server, teacher, told = opened(completing(status=500, error="Internal Server Error", max_length=0))
    assert teacher.identity.build == "s; written words only"
    (line,) = told
    assert "(500: Internal Server Error, when asked for log-probabilities)" in line
    assert len(server.requests) < 25


def test_a_server_that_fails_on_long_lists_alone_gives_the_longest_that_it_can(opened):
    _, teacher, _ = opened(completing(status=500, error="Internal Server Error", max_length=20))
    assert teacher.identity.build == "s; 20 likely tokens"
