"""Soft labels of several questions: each as if it were asked alone, put together by text."""

import json
import random

import numpy as np
import pytest
from support.teachers.question_paths import question_store

from potstill.contract.errors import UserError
from potstill.contract.questions.soft_answers import read_soft_answers, rows_of, write_soft_answers
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.questions import TAG_SHARE, derive_questions, priors_of
from potstill.labeler.aggregation.questions_summary import as_text, questions_summary
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore

pytestmark = pytest.mark.slow


@pytest.fixture
def filled(tmp_path):
    """A function that fills a store, and gives it open with its task and the right answers."""
    opened = []

    def fill(**changes):
        task, right = question_store(tmp_path / "labels.db", random.Random(0), **changes)
        opened.append(LabelStore.read(tmp_path / "labels.db"))
        return opened[-1], task, right

    yield fill
    for store in opened:
        store.close()


def test_every_text_has_the_answer_that_its_paths_give_and_the_file_can_be_read(filled, tmp_path):
    store, task, right = filled()
    found = derive_questions(store, store.runs()[0])
    write_soft_answers(tmp_path / "soft.parquet", found.rows)
    rows = read_soft_answers(tmp_path / "soft.parquet", task.questions)
    assert rows == found.rows and {row.task_digest for row in rows} == {task.digest}
    assert [row.id for row in rows] == sorted(right) and all(row.gold is None for row in rows)
    for row in rows:
        for name in ("move", "asks", "sure"):
            assert max(row.answers[name].probs, key=row.answers[name].probs.get) == right[row.id][name][0]
        topics = row.answers["topics"]
        assert [tag for tag, p in topics.probs.items() if p > 0.5] == right[row.id]["topics"]
        assert topics.votes == {tag: 4 if tag in right[row.id]["topics"] else 0 for tag in topics.votes}
        assert (topics.n_paths, topics.agreement) == (4, 1.0)


def test_each_question_is_derived_as_a_run_of_its_own(filled):
    store, task, _ = filled()
    rows = derive_questions(store, store.runs()[0], DeriveConfig(method="mean")).rows
    for run in store.runs():
        alone = derive(store, run, DeriveConfig(method="mean")).rows
        question = task.find(run.settings.question.split("/")[0])
        tag = run.settings.question.partition("/")[2] or None
        together = rows_of(rows, question, tag)
        assert [row.id for row in together] == [row.id for row in alone]
        np.testing.assert_allclose([list(r.probs.values()) for r in together], [list(r.probs.values()) for r in alone])
        assert [row.votes for row in together] == [row.votes for row in alone]
        assert [row.entropy for row in together] == pytest.approx([row.entropy for row in alone])


def test_a_text_without_paths_of_a_question_or_of_one_tag_has_no_answer_to_it(filled):
    store, _, _ = filled(skip=lambda key, i: (key == "sure" and i == 1) or (key == "topics/chart" and i == 2))
    rows = derive_questions(store, store.runs()[0], ids=["002", "001", "000", "999"]).rows
    assert [row.id for row in rows] == ["002", "001", "000"]
    absent = [[name for name, label in row.answers.items() if label is None] for row in rows]
    assert absent == [["topics"], ["sure"], []]


def test_without_any_path_there_is_nothing_to_derive(filled):
    store, _, _ = filled(skip=lambda key, i: True)
    with pytest.raises(UserError, match=r"holds no path of this labelling yet; run: potstill label$"):
        derive_questions(store, store.runs()[0])


def test_a_prior_is_stated_by_question_and_of_tags_one_by_one(filled):
    store, _, _ = filled()
    prior = {"move:up": 0.5, "move:flat": 0.25, "move:down": 0.25, "asks:yes": 0.2, "topics:chart": 0.1}
    rows = derive_questions(store, store.runs()[0], DeriveConfig(method="matched", prior=prior | {"topics:news": 0.3, "topics:people": 0.6, "sure:low": 0.2, "sure:middle": 0.4, "sure:high": 0.4})).rows  # fmt: skip

    def share(name, label):
        return np.mean([row.answers[name].probs[label] for row in rows])

    assert [share("move", "up"), share("asks", "yes"), share("asks", "no")] == pytest.approx([0.5, 0.2, 0.8], abs=1e-5)
    assert [share("topics", "chart"), share("topics", "people")] == pytest.approx([0.1, 0.6], abs=1e-5)


def test_a_tag_whose_share_is_not_stated_is_taken_to_hold_for_a_quarter_and_that_is_told(filled):
    store, _, _ = filled()
    found = derive_questions(store, store.runs()[0], DeriveConfig(prior={"topics:chart": 0.5}))
    means = {tag: np.mean([row.answers["topics"].probs[tag] for row in found.rows]) for tag in ("news", "chart", "people")}
    assert means == pytest.approx({"news": TAG_SHARE, "chart": 0.5, "people": TAG_SHARE}, abs=1e-4)
    told = [line for line in found.warnings if line.startswith("topics/") and "preference" in line]
    assert len(told) == 2, "what holds for two tags is said once"
    assert told[0].startswith("topics/news, topics/people: ")
    assert told[0].endswith("which is a guess; state a tag's share: --prior topics:TAG=0.1")
    assert told[1].startswith("topics/chart: ") and told[1].endswith("until the labels' shares are the stated ones")


@pytest.mark.parametrize(
    ("prior", "found"),
    [({"up": 1.0 - 1e-9}, "'up'"), ({"move:left": 0.3}, "'move:left'"), ({"other:up": 0.3}, "'other:up'")],
)
def test_a_share_of_no_label_is_refused_with_an_example(filled, prior, found):
    _, task, _ = filled()
    with pytest.raises(UserError) as caught:
        priors_of(type("C", (), {"prior": prior})(), task.questions)
    assert str(caught.value) == f"prior: {found} is not question:label; write for example move:up=0.3"


def test_shares_of_one_question_that_do_not_sum_to_1_are_refused(filled):
    store, _, _ = filled()
    with pytest.raises(UserError, match=r"^prior: the shares of up, flat, down sum to 1\.4; they must sum to 1$"):
        derive_questions(store, store.runs()[0], DeriveConfig(prior={"move:up": 0.5, "move:flat": 0.5, "move:down": 0.4}))


def test_a_run_of_a_task_of_one_choice_is_no_labelling(stored):
    store, run = stored({"a": [(0, (0.6, 0.4))]})
    with pytest.raises(UserError, match=r"run 1 asks a task of one choice; give its task$"):
        derive_questions(store, run)


def test_the_summary_scores_every_question_by_its_kind(filled):
    store, _, _ = filled(n_gold=40)
    found = questions_summary(store, store.runs()[2], DeriveConfig())
    assert [(one.name, one.kind, one.n_texts, one.n_gold) for one in found.questions] == [
        ("move", "choice", 60, 40), ("asks", "yesno", 60, 40), ("topics", "tags", 60, 40), ("sure", "degree", 60, 40),
    ]  # fmt: skip
    by_name = {one.name: one for one in found.questions}
    assert by_name["move"].scores["macro_f1"].value == by_name["asks"].scores["auc"].value == 1.0
    assert by_name["topics"].scores["map"].value == by_name["sure"].scores["qwk"].value == 1.0
    assert np.array(by_name["sure"].confusions).sum() == np.trace(by_name["sure"].confusions) == 40
    assert by_name["topics"].n_paths == 3 * 60 * 4
    assert found.runs == {"move": 1, "asks": 2, "topics/news": 3, "topics/chart": 4, "topics/people": 5, "sure": 6}
    text = as_text(found)
    assert max(map(len, text.split("\n"))) <= 100
    assert "sure (degree): 60 texts, 240 paths; label mass 1.00, agreement 1.00" in text
    assert "40 texts at their level, 0 at one beside it, 0 further away; rows gold, columns most probable:" in text


def test_without_gold_the_summary_says_how_to_get_scores(filled):
    store, _, _ = filled()
    text = as_text(questions_summary(store, store.runs()[0], DeriveConfig()))
    assert text.count("no gold, so no scores; label some texts with --gold") == 4


def test_gold_of_some_questions_scores_those(filled, tmp_path):
    store, _, _ = filled(n_gold=0)
    store.close()
    from potstill.contract.texts import Text

    with LabelStore.create(tmp_path / "labels.db") as writable:
        known = writable.texts()["000"]
        writable.add_texts([Text(known.text, known.id, gold=json.dumps({"topics": []}))])
        rows = derive_questions(writable, writable.runs()[0]).rows
        assert rows[0].gold == {"topics": []} and rows[1].gold is None
        found = questions_summary(writable, writable.runs()[0], DeriveConfig())
    assert [one.n_gold for one in found.questions] == [0, 0, 1, 0]
