import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from potstill.trainer.pool_check.auc import auc_over_folds


def some_scores(n=200, seed=0):
    """Rounded, so that many are equal."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return np.round(rng.normal(size=n) + positive, 1), positive


def test_in_one_fold_it_is_the_area_of_scikit_learn():
    scores, positive = some_scores()
    found = auc_over_folds(scores, positive, np.zeros(len(scores), dtype=np.int64))
    assert found.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert found.low < found.value < found.high and found.n == 200


def test_texts_of_different_folds_are_not_compared():
    scores, positive = some_scores()
    folds = np.arange(200) % 4
    shifted = auc_over_folds(scores + 100.0 * folds, positive, folds)
    assert shifted == auc_over_folds(scores, positive, folds)
    inside = [roc_auc_score(positive[folds == fold], scores[folds == fold]) for fold in range(4)]
    assert shifted.value == pytest.approx(np.mean(inside), abs=1e-12)


def test_the_interval_is_as_wide_as_the_areas_of_new_texts_scatter():
    found = auc_over_folds(*some_scores(400), np.zeros(400, dtype=np.int64))
    fresh = [roc_auc_score(positive, scores) for scores, positive in (some_scores(400, seed) for seed in range(1, 400))]
    low, high = np.percentile(fresh, [2.5, 97.5])
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


@pytest.mark.parametrize(("sign", "value"), [(1, 1.0), (-1, 0.0)])
def test_a_perfect_order_is_certain(sign, value):
    positive = np.arange(20) < 10
    found = auc_over_folds(sign * positive.astype(np.float64), positive, np.arange(20) % 2)
    assert (found.value, found.low, found.high) == (value, value, value)


def test_equal_scores_say_nothing():
    positive = np.arange(20) < 10
    assert auc_over_folds(np.zeros(20), positive, np.zeros(20, dtype=np.int64)).value == 0.5
