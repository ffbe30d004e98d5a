"""Prompt variants take the wordings of a task in turn, each read by words of its own."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.small_task import SMALL_TASK

from potstill.contract.errors import UserError
from potstill.contract.task import Task, Wording, load_task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.aggregation.summary import summary
from potstill.labeler.aggregation.summary_text import as_text
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.prompts.variants import one_variant, prompt_variants, prompts_digest
from potstill.labeler.prompts.wordings import asked_tasks, own_words, with_all_words
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.labeler.teacher import NOT_ASKED, Identity
from potstill.labeler.teachers.opening import open_local

IDENTITY = Identity("m", "d", "d", "b")
MOOD = Wording(question="Happy or sad?", answer="Mood", words={"up": ["happy", "up"], "down": ["sad"]})
SHORT = Wording(guideline="Be quick.")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    return msgspec.structs.replace(load_task(tmp_path / "task.toml"), wordings=[MOOD, SHORT])


def test_variants_take_the_wordings_in_turn(task):
    variants = prompt_variants(task, LabelConfig("direct", n_paths=4, n_variants=4), IDENTITY)
    questions = [variant.prefix.partition("\n- ")[0] for variant in variants]
    assert questions == ["Up or down?", "Happy or sad?", "Be quick.\nUp or down?", "Up or down?"]
    whole = variants[1].prefix + variants[1].prompt(Text("hm", "a"))
    assert "- happy: u\n- sad: d\n" in whole and "Text: I sell\nMood: sad\n" in whole and whole.endswith("Text: hm\nMood:")


def test_each_is_read_by_its_own_words_among_those_of_all(task):
    variants = prompt_variants(task, LabelConfig("direct", n_paths=3, n_variants=3), IDENTITY)
    words = ("up", "happy", "down", "sad")
    assert {variant.spec.words for variant in variants} == {words}
    asked = [variant.request(Text("hm", "a"), (0,)).words for variant in variants]
    assert [tuple(words[place] for place in places) for places in asked] == [("up", "down"), ("happy", "up", "sad"), ("up", "down")]


def test_a_task_of_one_wording_is_asked_as_ever(task):
    alone = msgspec.structs.replace(task, wordings=[])
    (variant, *_) = prompt_variants(alone, LabelConfig("direct", n_paths=2), IDENTITY)
    assert variant.request(Text("hm", "a"), (0,)).words == () and with_all_words(alone) is alone
    assert own_words(alone, asked_tasks(alone)[0]) == (0, 1)
    config = LabelConfig("direct", n_paths=2)
    assert prompts_digest(prompt_variants(task, config, IDENTITY)) != prompts_digest(prompt_variants(alone, config, IDENTITY))


def test_reasoned_paths_take_the_wordings_in_turn_too(task):
    variants = prompt_variants(task, LabelConfig("cot", n_paths=5), IDENTITY)
    assert [variant.paths for variant in variants] == [(0, 3), (1, 4), (2,)]
    assert [variant.spec.answer_cue for variant in variants] == ["Answer:", "Mood:", "Answer:"]
    alone = msgspec.structs.replace(task, wordings=[])
    assert [variant.paths for variant in prompt_variants(alone, LabelConfig("cot", n_paths=5), IDENTITY)] == [(0, 1, 2, 3, 4)]
    cascade = prompt_variants(task, LabelConfig("cascade", n_paths=5, n_direct=2), IDENTITY)
    assert [(variant.mode, variant.paths) for variant in cascade[:3]] == [("direct", (0,)), ("direct", (1,)), ("cot", (2, 5))]
    assert one_variant(task, 1, LabelConfig("cot", n_paths=5), IDENTITY).prefix == variants[1].prefix


def test_a_server_that_decides_is_asked_the_other_question_about_the_same_labels(task):
    decides = Identity("m", "d", "d", "b", api="decisions")
    variants = prompt_variants(task, LabelConfig("direct", n_paths=2, n_variants=2), decides)
    assert [variant.request(Text("hm", "a"), (0,)).words for variant in variants] == [(), ()]
    assert [len(variant.spec.words) for variant in variants] == [2, 2]
    assert ["Happy or sad?" in str(variant.spec.question) for variant in variants] == [False, True]


def test_candidates_and_wordings_are_refused(task):
    many = [msgspec.structs.replace(task.labels[0], name=f"label {i}", words=[]) for i in range(30)]
    wide = msgspec.structs.replace(task, labels=many, examples=[], wordings=[SHORT])
    with pytest.raises(UserError, match="the task has 30 labels, of which each text is asked among a few"):
        prompt_variants(wide, LabelConfig("direct", n_paths=2), IDENTITY)
    assert len(prompt_variants(wide, LabelConfig("direct", n_paths=2, candidates=0), IDENTITY)) == 2


@pytest.mark.slow
def test_a_run_stores_what_was_asked_resumes_and_its_labels_are_the_mean_of_both_questions(task, tiny_models, tmp_path):
    texts = [Text(f"number {i} went {'up' if i % 2 else 'down'}", str(i)) for i in range(12)]
    store = tmp_path / "labels.db"
    teacher = open_local(str(tiny_models["dense"]), config=LocalConfig(n_threads=1, cache=tmp_path / "cache"))
    try:
        label(task, texts[:5], store, teacher, LabelConfig("direct", n_paths=2, n_variants=3))
        report = label(task, texts, store, teacher, LabelConfig("direct", n_paths=3, n_variants=3))
    finally:
        teacher.close()
    assert (report.n_paths, report.n_drawn) == (36, 26)
    with LabelStore.read(store) as opened:
        run = opened.find_run(None)
        paths = list(opened.paths(run))
        table = read_paths(opened, run)
        assert not check_store(opened).faults
        rows = derive(opened, run).rows
        shown = as_text(summary(opened, run, DeriveConfig()))
    assert "variants by wording of the task: its own: 0; 1: 1; 2: 2" in shown.splitlines()
    assert run.settings.words == ["up", "happy", "down", "sad"] and run.settings.wordings == 2
    for path in paths:
        known = [word for word, value in zip(run.settings.words, path.word_logprobs, strict=True) if value != NOT_ASKED]
        assert known == (["up", "happy", "sad"] if path.variant == 1 else ["up", "down"])
    assert np.isfinite(table.logprobs).all() and np.allclose(np.exp(table.logprobs).sum(axis=1), 1)
    assert len(rows) == 12 and all(math.isclose(sum(row.probs.values()), 1, abs_tol=1e-6) for row in rows)
