"""A task of several questions is labelled text by text; after a stop only what is missing is drawn, and every question is whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.teachers.table_teacher import TASK, TEXTS, Table
from support.toy_questions import a_questionnaire

from potstill.contract.errors import StoppedError, UserError
from potstill.contract.questions.question import Question
from potstill.contract.task import Label
from potstill.contract.texts import Text
from potstill.labeler.aggregation.questions import derive_questions
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.prompts.several import MOST_LABELS
from potstill.labeler.prompts.variants import chosen_by_similarity
from potstill.labeler.run.label import label
from potstill.labeler.run.questions import QuestionsJob, label_questions
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.labeler.store.questions import labelling, questions_of
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers.local import LocalTeacher
from potstill.models.catalog import find_backbone

pytestmark = pytest.mark.slow

KEYS = ["move", "asks", "topics/news", "topics/chart", "topics/people", "sure"]


@pytest.fixture
def teacher(tiny_models):
    engine = LlamaEngine(tiny_models["dense"])
    stated = {"n_threads": 1, "n_batch": 256, "n_live_paths": 24, "flash_attention": False}
    yield lambda **changes: LocalTeacher(engine, Identity("tiny", "d", "d", "b"), LocalConfig(**(stated | changes)))
    engine.close()


def reasoned():
    """The toy task, with rationales."""
    task = a_questionnaire()
    examples = [
        type(one)(text=one.text, answers=one.answers, rationales=dict.fromkeys(one.answers, "It says so.")) for one in task.examples
    ]
    return a_questionnaire(examples=examples)


def job(tmp_path, config, name="labels.db"):
    return QuestionsJob(reasoned(), tmp_path / name, config)


def stored(file):
    """Paths by question, then (text, number)."""
    with LabelStore.read(file) as store:
        runs = labelling(store, store.runs()[-1])
        assert not check_store(store).faults
        return {run.settings.question: {(p.text_id, p.path): p for p in store.paths(run)} for run in runs}


@pytest.mark.parametrize(("mode", "n_variants"), [("direct", 3), ("cot", 1)])
def test_every_question_gets_every_path_of_every_text(tmp_path, teacher, mode, n_variants):
    report = label_questions(job(tmp_path, LabelConfig(mode=mode, n_paths=3, max_rationale_tokens=5)), TEXTS, teacher())
    found = stored(tmp_path / "labels.db")
    assert list(found) == KEYS
    for paths in found.values():
        assert sorted(paths) == [(text.id, n) for text in TEXTS for n in range(3)]
        assert {path.variant for path in paths.values()} == set(range(n_variants))
    assert (report.n_paths, report.n_drawn, report.n_texts, report.in_time) == (6 * 6 * 3, 6 * 6 * 3, 6, True)


class Stopped(LocalTeacher):
    """Is interrupted after some paths."""

    def answer_together(self, *args):
        for n, result in enumerate(super().answer_together(*args)):
            if n == self.stop_after:
                raise KeyboardInterrupt
            yield result


@pytest.mark.parametrize(("mode", "deterministic"), [("direct", False), ("direct", True), ("cot", True)])
@pytest.mark.parametrize("stop_after", [0, 5, 23])
def test_after_a_stop_only_what_is_missing_is_drawn_and_the_paths_are_those_of_an_unbroken_run(
    tmp_path, teacher, mode, deterministic, stop_after
):
    config = LabelConfig(mode=mode, n_paths=2, max_rationale_tokens=5, deterministic=deterministic)
    opened = teacher(deterministic=deterministic)
    opened.__class__, opened.stop_after = Stopped, stop_after
    with pytest.raises(StoppedError, match=r"^stopped; \d+ of 72 paths are in .*; the same command draws the rest$") as stopped:
        label_questions(job(tmp_path, config), TEXTS, opened)
    n_stored = int(str(stopped.value).split()[1])  # the answer to a list of three tags is three paths
    assert stop_after <= n_stored <= 3 * stop_after
    opened.__class__ = LocalTeacher
    report = label_questions(job(tmp_path, config), TEXTS, opened)
    assert (report.n_paths, report.n_drawn) == (72, 72 - n_stored)
    label_questions(job(tmp_path, config, "unbroken.db"), TEXTS, teacher(deterministic=deterministic))
    broken, unbroken = stored(tmp_path / "labels.db"), stored(tmp_path / "unbroken.db")
    if deterministic:
        assert broken == unbroken
    for key in KEYS:
        assert broken[key].keys() == unbroken[key].keys()
        for at, path in broken[key].items():
            np.testing.assert_allclose(path.word_logprobs, unbroken[key][at].word_logprobs, atol=0.01, rtol=2e-3)


def test_texts_that_come_later_are_added_to_the_same_runs(tmp_path, teacher):
    config = LabelConfig(mode="direct", n_paths=1)
    label_questions(job(tmp_path, config), TEXTS[:2], teacher())
    report = label_questions(job(tmp_path, config), TEXTS, teacher())
    assert (report.n_drawn, len(stored(tmp_path / "labels.db")["sure"])) == (6 * 4, 6)


class FourWords(Table):
    """Answers any question with as many numbers as it has words."""

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        for path in super().answer(prefix, variant, requests, spec, run_seed):
            yield replace(path, word_logprobs=tuple(-1.0 - i for i in range(len(spec.words))))


@pytest.mark.parametrize("config", [LabelConfig(mode="direct", n_paths=2), LabelConfig(mode="cot", n_paths=2, bound=0.6)])
def test_a_teacher_that_cannot_share_texts_is_asked_each_question_alone(tmp_path, config):
    first, second, seen = FourWords(20, KeyboardInterrupt()), FourWords(), []
    with pytest.raises(StoppedError):
        label_questions(job(tmp_path, config), TEXTS, first)
    report = label_questions(job(tmp_path, config), TEXTS, second, lambda live: seen.append((live.n_paths, live.total)))
    assert len(first.asked) == 20 and report.n_paths == 72 and seen[-1] == (72, 72)
    assert list(stored(tmp_path / "labels.db")) == KEYS


def test_a_question_with_many_labels_is_asked_alone_beside_those_that_share_texts(tmp_path, teacher):
    many = Question(name="intent", question="Which?", labels=[Label(name=f"i{i}") for i in range(MOST_LABELS + 1)])
    task = a_questionnaire(questions=[many, *a_questionnaire().questions])
    config, encoder = LabelConfig(mode="direct", n_paths=1), find_backbone("all-minilm-l6-v2")

    def candidates(asked, texts):
        return chosen_by_similarity(asked, texts, config, encoder)

    report = label_questions(QuestionsJob(task, tmp_path / "labels.db", config, candidates), TEXTS, teacher())
    assert report.n_paths == 7 * 6 and report.n_texts == 6
    assert sorted(stored(tmp_path / "labels.db")) == sorted(["intent", *KEYS])
    with LabelStore.read(tmp_path / "labels.db") as store:
        derived = derive_questions(store, store.runs()[-1])
    assert all(len(row.answers["intent"].probs) == MOST_LABELS + 1 and row.answers["move"] for row in derived.rows)


def test_a_store_of_one_choice_is_not_mixed_with_several_questions(tmp_path, teacher):
    config = LabelConfig(mode="direct", n_paths=1)
    label(TASK, TEXTS, tmp_path / "labels.db", Table(), config)
    with pytest.raises(UserError, match="was labelled with another task digest, .*; use --new-run"):
        label_questions(job(tmp_path, config), TEXTS, teacher())
    label_questions(job(tmp_path, config, "other.db"), TEXTS, teacher())
    with pytest.raises(UserError, match="was labelled with another task digest, .*; use --new-run"):
        label(TASK, TEXTS, tmp_path / "other.db", Table(), config)


def test_the_store_knows_the_questions_and_each_runs_gold(tmp_path, teacher):
    given = {"move": "down", "topics": ["chart", "news"], "asks": True}
    texts = [Text("a", "a", gold=json.dumps(given)), Text("b", "b")]
    seen = []
    label_questions(
        job(tmp_path, LabelConfig(mode="direct", n_paths=1)), texts, teacher(), lambda live: seen.append(live.snapshot())
    )
    with LabelStore.read(tmp_path / "labels.db") as store:
        questions = questions_of(labelling(store, store.runs()[-1]))
    wanted = a_questionnaire().questions
    assert [(q.name, q.kind, q.label_names) for q in questions] == [(q.name, q.kind, q.label_names) for q in wanted]
    assert questions[-1].level_values == wanted[-1].level_values
    assert seen[-1].n_gold == 1 and seen[-1].paths == seen[-1].of == 12
    assert {"move=up", "asks", "topics/news", "sure=low"} < set(seen[-1].shares)
