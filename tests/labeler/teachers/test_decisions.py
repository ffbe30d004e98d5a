"""Teachers that decide: what they are asked, strict as the published types are, and what of their answers is stored."""

import math
import subprocess

import numpy as np
import pytest
from support.small_task import SMALL_TASK
from support.teachers.many_labels import TASK as MANY
from support.teachers.many_labels import TEXTS as MANY_TEXTS
from support.teachers.many_labels import made_up
from support.teachers.model_servers import decisions_server, system_one_server
from support.teachers.table_teacher import TASK, TEXTS

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.config import LabelConfig, ServerConfig
from potstill.labeler.prompts.variants import Nearest, prompt_variants
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import NOT_ASKED, PathRequest, TooLong
from potstill.labeler.teachers.remote import open_remote
from potstill.labeler.teachers.replies import LEAST_LOGPROB

pytestmark = pytest.mark.slow

QUICK = ServerConfig(n_tries=2, first_wait_s=0.01, timeout_s=5.0)
DIRECT = LabelConfig(mode="direct", n_paths=4)
TRUTH = {"positive": 0.7, "negative": 0.3, "yes": 0.5, "no": 0.5}


def by_truth(_text, options):
    return [TRUTH[option] for option in options]


@pytest.fixture
def opened(scripted_server):
    teachers = []

    def start(script, api="auto"):
        server, told = scripted_server(script), []
        teachers.append(open_remote(server.url, config=QUICK, api=api, tell=told.append))
        server.requests.clear()
        return server, teachers[-1], told

    yield start
    for teacher in teachers:
        teacher.close()


def answers(teacher, config=DIRECT, number=0, text=None):
    variant = prompt_variants(TASK, config, teacher.identity)[number]
    request = PathRequest("a", text or variant.prompt(TEXTS[0]), variant.paths)
    return list(teacher.answer(variant.prefix, number, [request], variant.spec, 0))


KINDS = {"decisions": decisions_server, "systemone": system_one_server}


@pytest.mark.parametrize("api", KINDS)
def test_one_request_gives_the_probability_of_every_label(opened, api):
    server, teacher, _ = opened(KINDS[api](by_truth), api)
    (path,) = answers(teacher)
    assert np.exp(path.word_logprobs) == pytest.approx([0.7, 0.3])  # one a label: its other words are not asked about
    assert (path.rationale, path.n_generated, path.n_prompt_tokens) == ("", 0, {"decisions": 30, "systemone": 40}[api])
    assert len(server.requests) == 1


def test_a_decision_is_asked_for_as_the_types_of_openai_have_it(opened):
    server, teacher, _ = opened(decisions_server(by_truth))
    answers(teacher)
    ((_, _, body),) = server.requests
    choices = [{"value": "positive", "description": "u"}, {"value": "negative", "description": "d"}]
    question = {"type": "choice", "name": "label", "instructions": "Up or down?", "choices": choices}
    assert body == {"model": "luna", "input": "Text: text number 0", "questions": [question]}


def test_a_question_of_system_one_is_asked_for_as_llama_cpp_and_sglang_describe_it(opened):
    server, teacher, _ = opened(system_one_server(by_truth))
    answers(teacher, number=1)
    ((_, _, body),) = server.requests
    question = {
        "type": "choice",
        "instructions": "Up or down?\nChoose the option that fits best.",
        "criteria": {"negative": "d", "positive": "u"},
    }
    assert body == {"model": "kev.gguf", "state": "Text: text number 0", "questions": {"label": question}}
    assert list(body["questions"]["label"]["criteria"]) == ["negative", "positive"]  # the order is the variant


def test_a_model_that_only_decides_is_found_by_itself_and_said(opened):
    _, teacher, told = opened(system_one_server(by_truth))
    assert teacher.identity.api == "systemone"
    assert teacher.identity.build == "llama.cpp; systemone by kev"  # an alias may stand for another version tomorrow
    assert told[0].endswith(": asked by api systemone (systemone by kev); it says that it only decides")
    _, teacher, told = opened(decisions_server(by_truth))
    assert teacher.identity.api == "decisions" and "/completions: 404: Not Found" in told[0]


def test_the_order_of_options_is_that_of_the_variant_and_each_probability_goes_to_its_label(opened):
    seen = []

    def first_is_liked(_text, options):
        seen.append(options)
        return [0.9, 0.1]

    _, teacher, _ = opened(decisions_server(first_is_liked))
    seen.clear()
    paths = [answers(teacher, number=i)[0] for i in range(4)]
    assert seen == [["positive", "negative"], ["negative", "positive"], ["positive", "negative"], ["negative", "positive"]]
    assert [round(math.exp(path.word_logprobs[0]), 2) for path in paths] == [0.9, 0.1, 0.9, 0.1]


def test_a_run_stores_paths_like_any_other_and_they_are_calibrated_like_any_other(opened, tmp_path):
    # the server prefers "positive" by a factor of 4 whatever the text; the texts with an even number are more positive
    def biased(text, options):
        if options[0] in ("yes", "no"):
            return [0.5, 0.5]
        up = 0.9 if int(text[-1]) % 2 == 0 else 0.7
        return [{"positive": up, "negative": 1 - up}[option] for option in options]

    _, teacher, _ = opened(system_one_server(biased))
    report = label(TASK, TEXTS, tmp_path / "labels.db", teacher, LabelConfig(n_paths=4))  # mode auto
    settings = report.run.settings
    assert (settings.mode, settings.api, settings.words, settings.word_labels) == (
        "direct",
        "systemone",
        ["positive", "negative"],
        [0, 1],
    )
    assert report.n_paths == 24
    with LabelStore.read(tmp_path / "labels.db") as store:
        raw = derive(store, report.run, DeriveConfig(method="mean")).rows
        calibrated = derive(store, report.run, DeriveConfig(method="calibrated")).rows
    assert {max(row.probs, key=row.probs.get) for row in raw} == {"up"}
    assert [max(row.probs, key=row.probs.get) for row in calibrated] == ["up", "down"] * 3


def test_a_mode_that_writes_is_refused(opened):
    _, teacher, _ = opened(system_one_server(by_truth))
    with pytest.raises(UserError) as error:
        answers(teacher, LabelConfig(mode="cot"))
    assert (
        str(error.value) == "mode cot needs a teacher that writes; this server decides at once (api systemone), so use mode direct"
    )


def test_a_question_that_the_model_declines_leaves_a_path_with_little_label_mass(opened):
    declined = {"type": "refusal", "name": "label"}
    _, teacher, _ = opened(decisions_server(lambda text, options: declined if text.startswith("Text") else by_truth(text, options)))
    (path,) = answers(teacher)
    assert sum(np.exp(path.word_logprobs)) == pytest.approx(0.01)
    _, teacher, _ = opened(system_one_server(lambda text, options: [] if text.startswith("Text") else by_truth(text, options)))
    (path,) = answers(teacher)
    assert sum(np.exp(path.word_logprobs)) == pytest.approx(0.01)


def test_the_label_mass_that_sglang_gives_is_kept(opened):
    _, teacher, _ = opened(system_one_server(by_truth, extra={"x_label_mass": 0.5}))
    (path,) = answers(teacher)
    assert np.exp(path.word_logprobs) == pytest.approx([0.35, 0.15])


def test_a_probability_of_zero_is_stored_as_a_finite_number_and_rounded_ones_are_scaled(opened):
    _, teacher, _ = opened(decisions_server(lambda text, options: [0.0, 0.99] if text.startswith("Text") else [0.5, 0.5]))
    (path,) = answers(teacher)
    assert path.word_logprobs == (LEAST_LOGPROB, 0.0)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"type": "choice", "probabilities": [{"value": "positive", "probability": 1.0}]}, "it has no probability for 'negative'"),
        ([0.5, 0.9], "its probabilities sum to 1.4"),
        ([1.5, -0.5], "its probabilities sum to 1"),
        ({"type": "score", "probabilities": []}, "it answers a choice with a score"),
        ({"type": "choice", "probabilities": "all"}, "Expected `object | array | null`, got `str`"),
    ],
)
def test_an_answer_that_lacks_something_shows_how_it_begins(opened, found, said):
    server, teacher, _ = opened(
        decisions_server(lambda text, options: found if text.startswith("Text") else by_truth(text, options))
    )
    with pytest.raises(UserError) as error:
        answers(teacher)
    assert str(error.value).startswith(f"{server.url}: /decisions answered '{{") and f"which is not a decision ({said}" in str(
        error.value
    )


def test_a_text_too_long_for_the_server_gets_no_path(opened):
    def script(path, body):
        if path == "/v1/decisions" and len(body["input"]) > 1000:
            return 400, {}, {"error": {"message": "the maximum context length is 512 tokens"}}
        return decisions_server(by_truth)(path, body)

    _, teacher, _ = opened(script)
    assert answers(teacher, text="word " * 500) == [TooLong("a", 0, 511)]


def test_the_console_labels_through_a_server_that_decides_and_shows_it(scripted_server, console, tmp_path):
    server = scripted_server(system_one_server(lambda text, options: [0.5 for _ in options]))
    (tmp_path / "task.toml").write_text(SMALL_TASK, encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text('{"text": "It rises."}\n{"text": "It falls."}\n', encoding="utf-8")
    words = ["label", "task.toml", "texts.jsonl", "out", "--teacher", server.url, "--paths", "4"]
    done = subprocess.run([*console, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 paths of 2 texts are stored; 8 of them drawn now")
    assert (
        "asked by api systemone (systemone by kev); it says that it only decides\nmode direct: kev.gguf decides at once"
        in done.stderr
    )
    again = [*words[:-2], "--api", "decisions"]
    done = subprocess.run([*console, *again], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/v1/decisions answers 501: This server does not generate text); try api auto" in done.stderr
    done = subprocess.run(
        [*console, "labels", "summary", "out/labels.db"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "mode direct, api systemone, 4 variants" in done.stdout, done.stderr


def test_a_server_that_does_not_decide_says_so_in_one_line(opened):
    with pytest.raises(UserError) as error:
        opened(decisions_server(by_truth), api="systemone")
    assert str(error.value).endswith("/v1/systemone answers 404: Not Found); try api auto")
    assert "cannot be asked by api systemone" in str(error.value)


@pytest.mark.parametrize("api", KINDS)
def test_of_many_labels_only_the_candidates_are_options_in_the_order_of_the_variant(opened, api):
    seen = []

    def second_is_liked(_text, options):
        seen.append(options)
        return [0.9 if place == 1 else 0.1 / (len(options) - 1) for place in range(len(options))]

    _, teacher, _ = opened(KINDS[api](second_is_liked), api)
    seen.clear()
    found = Nearest({}, "k", made_up(n_candidates=4))
    for variant in prompt_variants(MANY, LabelConfig(mode="direct", n_paths=2), teacher.identity, found):
        request = variant.request(MANY_TEXTS[1], variant.paths)
        (path,) = teacher.answer(variant.prefix, variant.number, [request], variant.spec, 0)
        asked = [word for word, _ in variant.spec.question.options if word in seen[-1]]
        assert asked == seen[-1] and len(asked) == 4
        places = [place for place, value in enumerate(path.word_logprobs) if value != NOT_ASKED]
        assert sorted(found.candidates["3"].labels) == places
        assert variant.spec.words[int(np.argmax(path.word_logprobs))] == seen[-1][1]
