"""Texts that differ come first, copies are left out, and gold is spread among the others."""

import numpy as np
import pytest
from support.tiny_backbone import write_backbone

from potstill.contract.texts import Text
from potstill.labeler.run import text_order
from potstill.labeler.run.text_order import spread, spread_order, with_gold_between, without_copies
from potstill.models.catalog import ModelFolder

pytestmark = pytest.mark.slow


def blobs(sizes, width=16, seed=0):
    """Clouds of the given sizes around different points, rows of length 1; and each row's cloud."""
    rng = np.random.default_rng(seed)
    centers = np.eye(width)[: len(sizes)]
    own = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centers[own] + 0.1 * rng.normal(size=(len(own), width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), own


def test_an_order_holds_every_text_once():
    vectors, _ = blobs([50, 30, 20])
    assert sorted(spread_order(vectors)) == list(range(100))


def test_rare_kinds_of_text_come_early(monkeypatch):
    monkeypatch.setattr(text_order, "N_CLUSTERS", 8)
    vectors, own = blobs([400, 20, 20, 20])
    order = spread_order(vectors)
    assert set(own[order[:8]]) == {0, 1, 2, 3}
    chance = np.bincount(own[np.random.default_rng(1).permutation(460)[:60]], minlength=4)[1:].min()
    assert np.bincount(own[order[:60]], minlength=4)[1:].min() > chance


def test_the_same_texts_have_the_same_order():
    vectors, _ = blobs([40, 40])
    np.testing.assert_array_equal(spread_order(vectors), spread_order(vectors))


@pytest.mark.parametrize("n", [1, 2, 70])
def test_equal_texts_and_few_texts_have_an_order(n):
    assert sorted(spread_order(np.tile(np.float32([1, 0]), (n, 1)))) == list(range(n))


def test_a_copy_is_left_out_but_for_gold():
    texts = [
        Text("Buy now", "1"),
        Text("buy  NOW ", "2"),
        Text("Buy now", "3", target="x"),
        Text("buy now", "4", gold="up"),
        Text("sell", "5"),
    ]
    assert [text.id for text in without_copies(texts)] == ["1", "3", "4", "5"]


def test_any_beginning_holds_the_same_share_of_gold():
    texts, gold = [Text(str(i), str(i)) for i in range(90)], [Text(f"g{i}", f"g{i}", gold="up") for i in range(10)]
    merged = with_gold_between(texts, gold)
    assert sorted(text.id for text in merged) == sorted(text.id for text in [*texts, *gold])
    for n in range(10, 101, 10):
        assert abs(sum(text.gold is not None for text in merged[:n]) - n / 10) <= 1
    assert with_gold_between([], gold) == gold and with_gold_between(texts, []) == texts


def test_texts_beyond_the_time_for_embedding_come_last(tmp_path, monkeypatch):
    monkeypatch.setattr(text_order, "_N_FIRST", 10)
    texts = [Text(f"text {i}", str(i)) for i in range(40)]
    encoder = ModelFolder("tiny", write_backbone(tmp_path), "d")
    whole, cut = spread(texts, encoder, 1e3), spread(texts, encoder, 1e-9)
    assert sorted(text.id for text in whole) == sorted(text.id for text in cut) == sorted(text.id for text in texts)
    by_digest = sorted(texts, key=lambda text: text_order.digest.of_value(text.id))
    assert cut[10:] == by_digest[10:] and set(cut[:10]) == set(by_digest[:10])
