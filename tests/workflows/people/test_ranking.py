"""The ranked queue: embeddings are made once, and without them the teacher's doubt alone decides, which is said."""

import sys

import pytest
from support.review_pages import write_store
from support.small_task import SMALL_TASK

from potstill.contract.questions.questionnaire import load_any_task
from potstill.contract.texts import Text
from potstill.review.corpus.texts import read_corpus
from potstill.workflows.people.ranking import ranked_order

pytestmark = pytest.mark.slow

TEXTS = [Text(f"{'the price of gold' if i % 2 else 'my cat sleeps'} {i}", f"t{i}") for i in range(16)]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    return read_corpus(write_store(tmp_path / "labels.db", tmp_path / "task.toml", TEXTS), load_any_task(tmp_path / "task.toml"))


def test_embeddings_are_kept_beside_the_store_and_made_anew_only_where_they_do_not_fit(corpus, minilm):
    lines = []
    ids = list(corpus.texts)
    first = ranked_order(corpus, ids, lines.append)
    assert sorted(first) == sorted(ids) and lines == ["embedding 16 texts; the next start reads them from labels.db.vectors.npz"]
    assert ranked_order(corpus, ids, lines.append) == first and len(lines) == 1
    corpus.path.with_name("labels.db.vectors.npz").write_bytes(b"not what was written")
    assert ranked_order(corpus, ids, lines.append) == first and len(lines) == 2
    ranked_order(corpus, ids[:12], lines.append)
    assert "embedding 12 texts" in lines[-1]


def test_without_torch_the_queue_is_ranked_by_doubt_and_says_so(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = []
    order = ranked_order(corpus, list(corpus.texts), lines.append)
    doubts = [corpus.answers[""][text_id].entropy for text_id in order]
    assert doubts[0] == max(doubts) and sorted(order) == sorted(corpus.texts)
    assert lines == [
        "the queue is ranked by the teacher's doubt alone, not by what texts are near: the package 'torch' is not installed; "
        "install it with: pip install 'potstill[train]'"
    ]
