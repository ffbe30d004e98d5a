"""The teacher behind a server: the rules of its requests, against a scripted server."""

import math
import threading
import time
from concurrent.futures import wait
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support.teachers.llama_reference import PREFIX, TEXTS, answer_spec, requests

from potstill.contract.errors import UserError
from potstill.labeler.config import ServerConfig
from potstill.labeler.teacher import NOT_ASKED, PathRequest, TooLong, path_seed
from potstill.labeler.teachers.remote import open_remote
from potstill.labeler.teachers.word_lists import WRITTEN

pytestmark = pytest.mark.slow

spec = partial(answer_spec, max_rationale_tokens=8)
QUICK = ServerConfig(n_tries=3, first_wait_s=0.01, timeout_s=5.0)


def completion(*texts: str, listed: dict[str, float] | None = None, n_prompt: int = 50, n_generated: int = 7):
    logprobs = {"tokens": ["x"], "top_logprobs": [listed]} if listed else None
    choices = [{"text": text, "index": i, "logprobs": logprobs} for i, text in enumerate(texts)]
    usage = {"prompt_tokens": n_prompt, "completion_tokens": n_generated}
    return 200, {}, {"choices": choices, "usage": usage, "system_fingerprint": "b7"}


LISTED = {" positive": math.log(0.5), " negative": math.log(0.3), " neutral": math.log(0.1)}
MODELS = {"data": [{"id": "m", "created": 1}]}


def model(body):
    """A well-behaved model: rationales as many as asked, lists where asked."""
    if body["max_tokens"] == 1:
        return completion(" positive", listed=LISTED if body.get("logprobs") else None)
    return completion(*(f" thought {i}" for i in range(body.get("n", 1))))


def script(answer=model, models=MODELS):
    """A script of a server whose model answers by that function."""
    return lambda path, body: (200, {"Server": "s"}, models) if path == "/v1/models" else answer(body)


@pytest.fixture
def opened(scripted_server):
    """Starts a scripted server and opens a teacher on it; both end with the test."""
    teachers = []

    def start(answer=model, models=MODELS, config=QUICK, **options):
        server = scripted_server(script(answer, models))
        teachers.append(open_remote(server.url, config=config, **options))
        server.requests.clear()
        return server, teachers[-1]

    yield start
    for teacher in teachers:
        teacher.close()


def answers(teacher, mode: str, wanted: list[PathRequest] | None = None, **options):
    return teacher.answer(PREFIX[mode], 0, wanted or requests(mode), spec(mode), 0, **options)


def test_direct_asks_once_per_text_for_one_token_with_the_local_prompt(opened):
    server, teacher = opened()
    paths = sorted(answers(teacher, "direct"), key=lambda p: p.text_id)
    first, *others = server.completions()
    assert first["prompt"] == PREFIX["direct"]  # measured first: the server's cache then holds it
    assert {body["prompt"] for body in others} == {f"{PREFIX['direct']}Post: {text}\nSentiment:" for text in TEXTS}
    assert {(body["max_tokens"], body["temperature"], body["logprobs"]) for body in others} == {(1, 0.0, 100)}
    assert [p.word_logprobs for p in paths] == [tuple(LISTED.values())] * 3


def test_rationales_of_a_text_come_from_one_request_and_then_each_label_is_read(opened):
    server, teacher = opened()
    (ask, *_) = requests("cot", paths=4)
    paths = sorted(answers(teacher, "cot", [ask]), key=lambda p: p.path)
    _, think, *reads = server.completions()
    seed = path_seed(0, "0", 0)
    assert (think["n"], think["seed"], think["stop"], think["temperature"], think["max_tokens"]) == (4, seed, ["\n"], 0.5, 8)
    assert {(think[k]) for k in ("top_p", "repeat_penalty", "repetition_penalty")} == {1.0} and think["top_k"] == 40
    assert sorted(r["prompt"] for r in reads) == [f"{PREFIX['cot']}{ask.prompt} thought {i}\nSentiment:" for i in range(4)]
    assert [p.rationale for p in paths] == [f"thought {i}" for i in range(4)]
    assert [p.seed for p in paths] == [seed] * 4  # the one that was sent
    assert [p.n_generated for p in paths] == [2, 2, 2, 1]  # equal shares of what the server counted


def test_a_server_that_ignores_n_is_asked_path_by_path_from_then_on(opened):
    server, teacher = opened(lambda body: model({**body, "n": 1}))
    paths = sorted(
        answers(
            teacher,
            "cot",
            requests("cot", paths=3),
        ),
        key=lambda p: (p.text_id, p.path),
    )
    assert [(p.text_id, p.path) for p in paths] == [(str(i), n) for i in range(3) for n in range(3)]
    assert [p.seed for p in paths] == [path_seed(0, p.text_id, p.path) for p in paths]
    server.requests.clear()
    assert len(list(answers(teacher, "cot", requests("cot", paths=3)))) == 9
    assert all("n" not in body for body in server.completions())


def test_a_server_that_gives_fewer_choices_than_asked_is_asked_for_no_more_than_it_gives(opened):
    def at_most_four(body):
        if body.get("n", 1) > 4:  # llama-server with four slots
            return 400, {}, {"error": {"message": "Field 'n': Value must be between 1 <= value <= 4, but got 8"}}
        return model(body)

    server, teacher = opened(at_most_four)
    (ask, *_) = requests("cot", paths=8)
    paths = list(answers(teacher, "cot", [ask]))
    assert sorted(p.path for p in paths) == list(range(8))
    assert [body["n"] for body in server.completions() if "n" in body] == [8, 4, 4]
    assert {p.path: p.seed for p in paths} == {n: path_seed(0, "0", n - n % 4) for n in range(8)}


def test_without_log_probabilities_the_written_word_is_a_vote_drawn_with_the_paths_seed(opened):
    def writes(body):
        return completion(" Negative.\n" if "Sold" in body["prompt"].rpartition("Post:")[2] else " I cannot say")

    server, teacher = opened(writes)
    assert teacher.identity.build == "s b7; written words only"
    paths = {p.text_id: p for p in answers(teacher, "direct")}
    votes = {text_id: np.exp(path.word_logprobs) for text_id, path in paths.items()}
    np.testing.assert_allclose(votes["2"], [(1 - WRITTEN) / 2, WRITTEN, (1 - WRITTEN) / 2])
    np.testing.assert_allclose(votes["0"], [(1 - WRITTEN) / 3] * 3)  # none of the words: little label mass, and no error
    asked = {body["seed"] for body in server.completions()[1:]}
    assert asked == {path_seed(0, str(i), 0) for i in range(3)}
    assert {(body["temperature"], body.get("logprobs")) for body in server.completions()[1:]} == {(0.5, None)}


def test_the_longest_list_that_the_server_grants_is_asked_for(opened):
    def at_most_twenty(body):
        if body.get("logprobs", 0) > 20:  # vLLM
            return 400, {}, {"error": {"message": "Requested sample logprobs of 100, which is greater than max allowed: 20"}}
        return model(body)

    server, teacher = opened(at_most_twenty)
    assert teacher.identity.build == "s b7; 20 likely tokens"
    list(answers(teacher, "direct"))
    assert {body["logprobs"] for body in server.completions()[1:]} == {20}


def test_sampling_fields_that_a_server_does_not_know_are_left_out(opened):
    def strict(body):
        unknown = set(body) & {"top_k", "min_p"}
        return (400, {}, {"error": {"message": "Unrecognized request argument supplied: top_k"}}) if unknown else model(body)

    server, teacher = opened(strict)
    assert len(list(answers(teacher, "cot"))) == 3
    assert all("top_k" not in body and "repeat_penalty" not in body for body in server.completions())


def test_lists_in_the_form_of_chat_answers_are_read_too(opened):
    def like_llama_server(body):
        status, headers, content = model(body)
        for choice in content["choices"]:
            top = [{"token": token, "logprob": value, "bytes": [1]} for token, value in LISTED.items()]
            choice["logprobs"] = {"content": [{"token": " positive", "logprob": -0.7, "top_logprobs": top}]}
        return status, headers, content

    _, teacher = opened(like_llama_server)
    assert {p.word_logprobs for p in answers(teacher, "direct")} == {tuple(LISTED.values())}


def test_further_paths_are_drawn_one_by_one_while_a_text_is_undecided(opened):
    server, teacher = opened()
    seen, prompt_variants = [], []

    def enough(text_id):
        prompt_variants.append((text_id, len([p for p in seen if p.text_id == text_id])))
        return text_id == "1" or len([p for p in seen if p.text_id == text_id]) >= 4

    for path in answers(teacher, "cot", requests("cot", paths=6, n_first=2), enough=enough):
        seen.append(path)  # enough() looks at what has been handed out so far
    drawn_paths = {text_id: sorted(p.path for p in seen if p.text_id == text_id) for text_id in "012"}
    assert drawn_paths == {"0": [0, 1, 2, 3], "1": [0, 1], "2": [0, 1, 2, 3]}
    assert sorted(prompt_variants) == [("0", 2), ("0", 3), ("0", 4), ("1", 2), ("2", 2), ("2", 3), ("2", 4)]
    assert [body.get("n") for body in server.completions() if body["max_tokens"] > 1].count(2) == 3


def test_paths_are_handed_out_while_other_requests_are_in_flight(opened):
    release = threading.Event()

    def slow_first(body):
        if TEXTS[0] in body["prompt"]:
            release.wait(10)
        return model(body)

    _, teacher = opened(slow_first)
    results = answers(teacher, "direct")
    assert {next(results).text_id, next(results).text_id} == {"1", "2"}
    release.set()
    assert next(results).text_id == "0"
    assert next(results, None) is None


class TokenCounts(list):
    """A list of asks that tells how many were taken."""

    taken = 0

    def __iter__(self):
        for ask in super().__iter__():
            self.taken += 1
            yield ask


def test_no_more_requests_are_in_flight_than_allowed_and_texts_are_taken_up_only_as_they_are_asked(opened):
    def a_moment(body):
        time.sleep(0.02)
        return model(body)

    server, teacher = opened(a_moment, config=ServerConfig(concurrency=3))
    wanted = TokenCounts(requests("direct", texts=[f"text {i}" for i in range(20)]))
    results = answers(teacher, "direct", wanted)
    next(results)
    assert wanted.taken <= 4
    assert len(list(results)) == 19
    assert server.most_at_once == 3


def test_an_interrupt_cancels_what_is_in_flight_and_the_teacher_can_be_asked_again(opened, monkeypatch):
    stuck, release, timed_out = threading.Event(), threading.Event(), []
    stuck.set()

    def answer(body):
        if stuck.is_set() and any(text in body["prompt"] for text in TEXTS) and not release.wait(60):
            timed_out.append(body)
        return model(body)

    def interrupted(*args, **kwargs):
        for _ in range(500):
            if len(server.completions()) == 3:  # the prefix, and two texts that hold both connections
                raise KeyboardInterrupt
            time.sleep(0.01)

    server, teacher = opened(answer, config=ServerConfig(concurrency=2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("potstill.labeler.teachers.remote.wait", interrupted)
        next(answers(teacher, "direct"))
    stuck.clear()
    assert len(list(answers(teacher, "direct"))) == 3
    assert not timed_out  # both connections were given up while their requests were still waiting
    release.set()


def test_a_caller_that_stops_early_leaves_no_request_behind(opened):
    release, timed_out = threading.Event(), []

    def answer(body):
        if any(text in body["prompt"] for text in TEXTS[1:]) and not release.wait(60):
            timed_out.append(body)
        return model(body)

    _, teacher = opened(answer)
    results = answers(teacher, "direct")
    next(results)
    results.close()  # as a full disk in the caller does
    teacher.close()
    assert not timed_out  # nobody waited for the requests in flight
    release.set()


def test_a_refusal_ends_the_run_with_the_servers_words_after_what_was_drawn(opened, monkeypatch):
    def refuses_one(body):
        if TEXTS[1] in body["prompt"]:
            return 422, {}, {"detail": "the prompt is not to my taste"}
        return model(body)

    # the refusal arrives together with the others, as on a machine that was busy meanwhile
    monkeypatch.setattr("potstill.labeler.teachers.remote.wait", lambda running, return_when: wait(running))
    server, teacher = opened(refuses_one)
    results = answers(teacher, "direct", requests("direct", texts=["a", TEXTS[1], TEXTS[2]]))
    assert {next(results).text_id, next(results).text_id} == {"0", "2"}
    with pytest.raises(UserError) as error:
        next(results)
    said = "refuses the request (422: the prompt is not to my taste); paths drawn so far are kept, and the same command goes on from there"
    assert str(error.value) == f"{server.url}: {said}"


def test_a_text_that_no_longer_fits_after_its_rationale_is_too_long_once(opened):
    def tight(body):
        if body["max_tokens"] == 1 and "thought" in body["prompt"]:
            return 400, {}, {"error": "the model's maximum context length is 60 tokens (61 in your prompt)"}
        return model(body)

    _, teacher = opened(tight)
    results = list(answers(teacher, "cot", requests("cot", paths=4)))
    # numbers after the prefix of 50 tokens; 8 of the context's 60 are for the rationale
    assert sorted(results, key=lambda r: r.text_id) == [TooLong(str(i), n_tokens=11, n_free=2) for i in range(3)]


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"<html>hello</html>", "<html>hello</html>"),
        ({"choices": []}, '{"choices": []}'),
        ({"choices": [{"message": {}}]}, '{"choices": [{"message": {}}]}'),
        (b"", ""),
    ],
)
def test_an_answer_that_is_no_completion_shows_how_it_begins(scripted_server, content, start):
    server = scripted_server(script(lambda body: (200, {}, content)))
    with pytest.raises(UserError) as error:
        open_remote(server.url, config=QUICK)
    assert str(error.value).startswith(f"{server.url}: /completions answered {start!r}, which is not a completion (")
    assert str(error.value).endswith("); paths drawn so far are kept, and the same command goes on from there")


# Which model


TWO = {"data": [{"id": "a"}, {"id": "/models/b.gguf"}]}


def test_one_of_several_models_is_chosen_by_its_id_or_its_files_name(opened):
    server, teacher = opened(models=TWO, model="b.gguf")
    list(answers(teacher, "direct"))
    assert {body["model"] for body in server.completions()} == {"/models/b.gguf"}
    assert teacher.identity.name == "b.gguf"


@pytest.mark.parametrize(
    ("models", "wanted", "said"),
    [
        (TWO, None, "has 2 models (a, /models/b.gguf); choose one with --model"),
        (TWO, "c", "has no model 'c'; it has: a, /models/b.gguf"),
        ({"data": []}, None, "has 0 models (none); load one there first, or name one with --model"),
        ({"data": None}, None, "has 0 models (none); load one there first, or name one with --model"),
    ],
)
def test_a_model_that_is_not_there_or_not_the_only_one_lists_what_is(scripted_server, models, wanted, said):
    server = scripted_server(script(models=models))
    with pytest.raises(UserError) as error:
        open_remote(server.url, model=wanted, config=QUICK)
    assert str(error.value) == f"{server.url}: {said}"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            (404, {}, {"detail": "Not Found"}),
            "answers /models with 404: Not Found; is the address right? It usually ends in /v1; "
            "or name the model with --model, if the server has no list",
        ),
        (
            (200, {}, b"<html>"),
            "/models is not a list of models (JSON is malformed: invalid character (byte 0)); is it an OpenAI-compatible server?",
        ),
        (
            (200, {}, {"models": []}),
            "/models is not a list of models (Object missing required field `data`); is it an OpenAI-compatible server?",
        ),
    ],
)
def test_an_address_that_lists_no_models_says_what_it_answered(scripted_server, reply, said):
    server = scripted_server(lambda path, body: reply)
    with pytest.raises(UserError) as error:
        open_remote(server.url, config=QUICK)
    assert str(error.value) == f"{server.url}: {said}"


def test_what_says_which_model_it_is_decides_the_digest_and_what_does_not_leaves_it(opened):
    def digest(**entry):
        _, teacher = opened(models={"data": [{"id": "m", **entry}]})
        return teacher.identity.digest

    bare = digest()
    assert digest(created=1, permission=[{"id": "x"}], meta={"n_ctx": 512}) == digest(created=2, meta={"n_ctx": 1024})
    assert digest(root="/here/m") == digest(root="/there/m") != bare
    assert len({bare, digest(meta={"size": 1}), digest(meta={"size": 2}), digest(root="org/m"), digest(owned_by="me")}) == 5


def test_of_many_words_only_the_candidates_are_read(opened):
    _, teacher = opened()
    wanted = [replace(request, words=(0, 2)) for request in requests("direct")]
    for path in answers(teacher, "direct", wanted):
        assert path.word_logprobs == (LISTED[" positive"], NOT_ASKED, LISTED[" neutral"])


def test_a_word_that_was_written_counts_only_if_it_is_a_candidate(opened):
    _, teacher = opened(lambda body: completion(" negative"))
    (wanted, *_) = requests("direct")
    for words, voted in (((0, 1), 1), ((0, 2), None)):
        (path,) = answers(teacher, "direct", [replace(wanted, words=words)])
        assert path.word_logprobs[1 if voted else 0] == pytest.approx(math.log(WRITTEN if voted else (1 - WRITTEN) / 2))
        assert [place for place, value in enumerate(path.word_logprobs) if value != NOT_ASKED] == list(words)
