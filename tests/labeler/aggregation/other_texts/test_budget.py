"""Curves over texts and paths: from stored paths, on gold texts that nothing learned from."""

from dataclasses import replace

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.budget import FIRST, MIN_GOLD, budget_points
from potstill.labeler.aggregation.path_table import NO_GOLD, read_paths

LABELS = ["up", "down"]
PLAIN = DeriveConfig(refine="off")
pytestmark = pytest.mark.slow


def paths_of(n=500, n_gold=160, right=0.75, n_paths=3, seed=0):
    """Paths and gold of a teacher that is right about so many texts, and vectors in which texts of a label lie together."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    said = np.where(rng.random((n, n_paths)) < right, label[:, None], 1 - label[:, None])
    table = {f"{i:04d}": [(v, (0.7, 0.3) if said[i, v] == 0 else (0.3, 0.7)) for v in range(n_paths)] for i in range(n)}
    vectors = rng.normal(size=(n, 16)) + 2.5 * np.outer(2 * label - 1, np.eye(16)[0])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gold = {f"{i:04d}": LABELS[label[i]] for i in range(n_gold)}
    return table, gold, vectors.astype(np.float32)


def test_every_part_of_texts_and_paths_is_scored_and_more_paths_make_better_labels(stored):
    table, gold, vectors = paths_of()
    store, run = stored(table, gold, labels=LABELS)
    points = budget_points(read_paths(store, run), run.settings, PLAIN, vectors)
    assert [(p.n_paths, p.n_texts) for p in points] == [(k, n) for k in (1, 2, 3) for n in (FIRST, 2 * FIRST, 340)]
    one, three = points[2], points[8]
    assert three.labels.value > one.labels.value + 0.05 and all(p.labels.n == 160 for p in points)
    assert three.student.value > 0.9 > three.labels.value  # the texts lie apart better than the teacher tells them apart


def test_the_stand_in_learns_from_the_other_texts_alone(stored):
    table, gold, vectors = paths_of()
    store, run = stored(table, gold, labels=LABELS)
    found = read_paths(store, run)
    mute = found.logprobs.copy()
    others = found.gold[found.owners] == NO_GOLD
    mute[others] = np.random.default_rng(1).permutation(mute[others])
    last = budget_points(replace(found, logprobs=mute), run.settings, PLAIN, vectors)[-1]
    assert last.labels.value > 0.65 and last.student.value < 0.6


def test_refined_labels_are_scored_where_there_are_enough_texts_for_that(stored, minilm):
    table, gold, vectors = paths_of(n=400, n_gold=60)
    store, run = stored(table, gold, labels=LABELS)
    found = read_paths(store, run)
    plain, refined = (budget_points(found, run.settings, config, vectors) for config in (PLAIN, DeriveConfig()))
    assert refined[0].labels == plain[0].labels  # 125 texts are too few even with the gold ones
    assert refined[-1].labels.value > plain[-1].labels.value


def test_a_part_of_a_table_is_what_was_said_of_that_part(stored):
    table, gold, _ = paths_of(n=40, n_gold=5, n_paths=3)
    store, run = stored(table, gold, labels=LABELS)
    rows = np.array([1, 3, 4, 30])
    part = read_paths(store, run).first_paths(2).of_texts(rows)
    assert [text.id for text in part.texts] == ["0001", "0003", "0004", "0030"]
    assert part.gold.tolist() == [*(LABELS.index(gold[key]) for key in ("0001", "0003", "0004")), NO_GOLD]
    assert part.owners.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and part.variants.tolist() == [0, 1] * 4
    said = [probs for row in rows for _, probs in table[f"{row:04d}"][:2]]
    np.testing.assert_allclose(np.exp(part.logprobs), said)


def test_one_variant_of_a_table_is_what_was_said_to_that_prompt(stored):
    table, gold, _ = paths_of(n=4, n_gold=1, n_paths=3)
    store, run = stored(table, gold, labels=LABELS)
    part = read_paths(store, run).of_variant(1)
    assert part.variants.tolist() == [1] * 4 and part.owners.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.exp(part.logprobs), [table[key][1][1] for key in sorted(table)])


def test_every_text_may_keep_a_number_of_paths_of_its_own(stored):
    table, gold, _ = paths_of(n=4, n_gold=1, n_paths=3)
    store, run = stored(table, gold, labels=LABELS)
    part = read_paths(store, run).first_paths(np.array([1, 3, 2, 4]))
    assert part.n_paths.tolist() == [1, 3, 2, 3]
    wanted = [probs for key, n in zip(sorted(table), (1, 3, 2, 3), strict=True) for _, probs in table[key][:n]]
    order = np.argsort(part.owners, kind="stable")
    np.testing.assert_allclose(np.exp(part.logprobs[order]), wanted)


@pytest.mark.parametrize(
    ("n", "n_gold", "message"),
    [
        (400, 29, f"29 texts of the run have a gold label, and a curve needs {MIN_GOLD}; label some with --gold"),
        (200, 60, "140 texts of the run have no gold label, and a curve needs 250; label more texts"),
    ],
)
def test_too_little_gold_and_too_few_texts_are_said(stored, n, n_gold, message):
    table, gold, vectors = paths_of(n=n, n_gold=n_gold)
    store, run = stored(table, gold, labels=LABELS)
    with pytest.raises(UserError, match=message):
        budget_points(read_paths(store, run), run.settings, PLAIN, vectors)
