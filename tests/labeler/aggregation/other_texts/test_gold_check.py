"""Gold decides against refining where refined labels are clearly worse, and no gold text decides about itself."""

import numpy as np
import pytest

from potstill.labeler.aggregation.gold_calibration import affine
from potstill.labeler.aggregation.other_texts.gold_check import checked

IDS = [str(i) for i in range(120)]


def as_it_is(probs, gold):
    return probs


def mapped(probs, gold):
    return affine(probs, gold, IDS)


def sample(n_gold=60, seed=0):
    """A flat and a sure version of the same answers, right about two thirds of the texts; and gold of the first ones."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 120)
    said = np.where(rng.random(120) < 2 / 3, truth, 1 - truth)
    flat, sure = (np.where(np.eye(2)[said] > 0, p, 1 - p) for p in (0.67, 0.99))
    return flat, sure, np.where(np.arange(120) < n_gold, truth, -1)


def test_labels_that_became_surer_than_right_are_not_taken():
    flat, sure, gold = sample()
    found = checked(flat, sure, gold, IDS, as_it_is)
    assert found.worse and not found.refined.any()
    np.testing.assert_array_equal(found.probs, flat)
    assert found.n_gold == 60 and found.refined_error > found.plain_error + 0.1


@pytest.mark.parametrize("swapped", [True, False])
def test_labels_that_became_better_or_stayed_are_taken(swapped):
    flat, sure, gold = sample()
    plain = sure if swapped else flat
    found = checked(plain, flat, gold, IDS, as_it_is)
    assert not found.worse and found.refined.all()
    np.testing.assert_array_equal(found.probs, flat)


def test_errors_are_those_of_another_implementation():
    from sklearn.metrics import brier_score_loss

    flat, sure, gold = sample()
    found = checked(flat, sure, gold, IDS, as_it_is)
    theirs = [2 * brier_score_loss(gold[:60], probs[:60, 1]) for probs in (flat, sure)]  # it counts one of two labels
    np.testing.assert_allclose([found.plain_error, found.refined_error], theirs)


def test_sureness_that_the_last_step_takes_back_does_not_count():
    flat, sure, gold = sample(n_gold=100)
    mended = np.arange(120) % 12 == 0  # what refining sets right: a few texts, while it makes all of them too sure
    sure[mended] = np.where(np.eye(2)[np.maximum(gold, 0)] > 0, 0.99, 0.01)[mended]
    assert checked(flat, sure, gold, IDS, as_it_is).worse
    assert not checked(flat, sure, gold, IDS, mapped).worse


@pytest.mark.parametrize("finish", [as_it_is, mapped])
@pytest.mark.parametrize("seed", [1, 4])  # close decisions
def test_what_a_gold_text_gets_does_not_depend_on_its_own_label(finish, seed):
    flat, _, gold = sample(n_gold=20, seed=seed)
    noise = np.random.default_rng(100 + seed).normal(0, 0.2, (120, 1)) * [1, -1]
    other = np.clip(flat + noise, 0.05, 0.95)
    before = checked(flat, other, gold, IDS, finish)
    decided = set()
    for text in range(20):
        changed = gold.copy()
        changed[text] = 1 - gold[text]
        after = checked(flat, other, changed, IDS, finish)
        np.testing.assert_array_equal(after.probs[text], before.probs[text])
        assert after.refined[text] == before.refined[text]
        decided.add((after.worse, tuple(after.refined[:20])))
    assert len(decided) > 1  # single labels did decide about other texts


def test_the_last_step_sees_no_gold_of_the_texts_that_are_decided_about():
    flat, sure, gold = sample()
    seen = []

    def watched(probs, own_gold):
        seen.append(np.flatnonzero(own_gold < 0))
        return probs

    checked(flat, sure, gold, IDS, watched)
    hidden = [set(rows.tolist()) - set(range(60, 120)) for rows in seen]
    n_hidden = sum(np.isin(np.arange(60), list(rows)).astype(int) for rows in hidden)
    assert (n_hidden == 2).all() and {len(rows) for rows in hidden} == {0, 12}  # each fold of both versions, and all for the others


def test_texts_without_gold_follow_all_gold_texts():
    flat, sure, gold = sample()
    found = checked(flat, sure, gold, IDS, as_it_is)
    assert (found.refined[60:] == (not found.worse)).all()
