"""The texts with what the teacher says, and rationales that differ."""

import pytest
from support.review_pages import some_texts, write_store
from support.small_task import SMALL_TASK

from potstill.contract.errors import FormatError
from potstill.contract.questions.questionnaire import load_any_task
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.store.database import LabelStore
from potstill.review.corpus.rationales import rationales
from potstill.review.corpus.texts import read_corpus

pytestmark = pytest.mark.slow


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    store = write_store(tmp_path / "labels.db", tmp_path / "task.toml", some_texts(12, None), n_paths=8)
    return read_corpus(store, load_any_task(tmp_path / "task.toml"))


def test_the_teachers_answers_are_the_soft_labels_of_the_store(corpus):
    with LabelStore.read(corpus.path) as store:
        derived = {row.id: row.probs for row in soft_labels(store, store.find_run(None))}
    assert {text_id: answer.probs for text_id, answer in corpus.answers[""].items()} == derived
    assert all(answer.labels("choice") == [max(derived[i], key=derived[i].get)] for i, answer in corpus.answers[""].items())


def test_search_finds_all_words_in_any_case_and_order(corpus):
    assert corpus.search("SAYS number 3") == ["t3"] and corpus.search("") == list(corpus.texts) and corpus.search("absent 3") == []
    assert corpus.search("number", ["t2", "t1"]) == ["t2", "t1"]


def test_rationales_come_first_from_paths_with_different_labels(corpus):
    for text_id in corpus.texts:
        shown = rationales(corpus, text_id)
        assert 1 <= len(shown) <= 3
        with LabelStore.read(corpus.path) as store:
            n_labels = len({row for (row,) in store.query("select substr(rationale, 15, 2) from paths where text_id = ?", text_id)})
        assert len({one.label for one in shown[:n_labels]}) == n_labels
        assert all(f"speaks for {one.label}," in one.text for one in shown)


def test_a_task_with_other_labels_is_refused_with_both_lists(corpus, tmp_path):
    (tmp_path / "task.toml").write_text(
        SMALL_TASK.replace('name = "up"', 'name = "rise"').replace('label = "up"', 'label = "rise"')
    )
    with pytest.raises(
        FormatError, match=r"run 1: asks \(up, down\); the task asks \(rise, down\): give the task that it was labelled for"
    ):
        read_corpus(corpus.path, load_any_task(tmp_path / "task.toml"))
