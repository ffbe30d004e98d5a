import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.sample_texts import drawn_texts

from potstill.trainer.pool_check.differences import find_differences
from potstill.trainer.pool_check.separability import (
    all_features,
    auc_over_folds,
    cross_validated_auc,
    extract_features,
    word_weights,
)

pytestmark = pytest.mark.slow


def told(pool, target, seed=0):
    return cross_validated_auc(
        all_features(extract_features([*pool, *target])), np.arange(len(pool) + len(target)) < len(pool), seed
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_texts_of_one_source_cannot_be_told_apart(seed):
    found = told(drawn_texts(300, seed), drawn_texts(300, seed + 100))
    assert found.low < 0.5 < found.high
    assert found.value == pytest.approx(0.5, abs=0.06) and found.n == 600


def test_a_word_that_only_one_side_has_tells_them_apart():
    pool, target = [f"{text} zebra" for text in drawn_texts(100, 1)], drawn_texts(100, 2)
    assert told(pool, target).low > 0.95
    read = extract_features([*pool, *target])
    weights = word_weights(read, np.arange(200) < 100)
    assert read.terms[int(weights.argmax())] == "zebra"


def test_swapping_the_sides_changes_nothing_but_the_sign_of_the_weights():
    read, is_pool = extract_features([*drawn_texts(80, 1), *drawn_texts(80, 2, words=(20, 40))]), np.arange(160) < 80
    there, back = cross_validated_auc(all_features(read), is_pool, 0), cross_validated_auc(all_features(read), ~is_pool, 0)
    assert there.value == pytest.approx(back.value, abs=0.02)  # the folds are dealt by side
    np.testing.assert_allclose(word_weights(read, is_pool), -word_weights(read, ~is_pool), atol=1e-2)


def test_texts_without_a_single_term_are_read_too():
    found = told([chr(0x100 + i) for i in range(60)], [chr(0x400 + i) for i in range(60)])
    assert 0 <= found.low <= found.high <= 1


def test_lengths_that_lie_in_the_middle_are_told_from_those_at_both_ends():
    ends = [*drawn_texts(100, 1, words=(3, 5)), *drawn_texts(100, 2, words=(40, 60))]
    middle = drawn_texts(200, 3, words=(12, 20))  # a single weight for the length could not do this
    read = extract_features([*ends, *middle])
    assert cross_validated_auc(read.form, np.arange(400) < 200, 0).low > 0.95


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


# --- the differences


def found(pool, target):
    return find_differences(extract_features([*pool, *target]), pool, target)


def test_texts_of_one_source_give_nothing_away():
    told = found(drawn_texts(300, 1), drawn_texts(300, 2))
    assert (told.traits, told.pool_words, told.target_words) == ([], [], [])


def test_different_lengths_alone_are_named_and_no_word_is_blamed():
    told = found(drawn_texts(300, 1, words=(40, 80)), drawn_texts(300, 2, words=(5, 15)))
    assert told.pool_length.low > told.target_length.high
    assert (told.pool_words, told.target_words) == ([], [])


def test_words_are_named_on_the_side_that_has_more_of_them_with_their_shares():
    pool = [f"{text} zebra" if i % 2 else text for i, text in enumerate(drawn_texts(200, 1))]
    target = [f"{text} lion" if i % 4 else text for i, text in enumerate(drawn_texts(200, 2))]
    told = found(pool, target)
    words = {row.name: (row.pool, row.target) for row in told.pool_words}
    assert words["zebra"] == (0.5, 0.0)
    assert {row.name: (row.pool, row.target) for row in told.target_words}["lion"] == (0.0, 0.75)
    assert not words.keys() & {row.name for row in told.target_words}


def test_traits_that_differ_are_named_the_largest_gap_first():
    pool = [f"Title\n\n{text}" for text in drawn_texts(200, 1)]
    target = [f"{text} 🚀" if i % 5 == 0 else text for i, text in enumerate(drawn_texts(200, 2))]
    told = found(pool, target)
    names = [(row.name, row.pool, row.target) for row in told.traits]
    assert names[:2] == [("a title (short first line, then a blank one)", 1.0, 0.0), ("a line break", 1.0, 0.0)]
    assert ("an emoji", 0.0, 0.2) in names
    gaps = [abs(pool_share - target_share) for _, pool_share, target_share in names]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] >= 0.1
