"""Calibration takes a preference for one label away, and nothing else."""

import numpy as np
import pytest
from scipy.special import log_softmax

from potstill.labeler.aggregation.calibration import as_sure_as, batch_calibrated, sharpened
from potstill.labeler.aggregation.path_table import label_logprobs


def some(n=200, c=3, bias=(3.0, 0.0, -1.0), seed=0):
    rng = np.random.default_rng(seed)
    return log_softmax(rng.normal(size=(n, c)) + np.array(bias)[:c], axis=1)


def test_afterwards_every_label_has_the_same_mean_probability():
    np.testing.assert_allclose(np.exp(batch_calibrated(some())).mean(axis=0), 1 / 3, atol=1e-5)


def test_a_stated_prior_is_met():
    prior = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(np.exp(batch_calibrated(some(), prior)).mean(axis=0), prior, atol=1e-5)


@pytest.mark.parametrize("shift", [-30.0, 0.0, 5.0])
def test_a_constant_bias_for_one_label_makes_no_difference(shift):
    biased = log_softmax(some() + np.array([shift, 0, 0]), axis=1)
    np.testing.assert_allclose(batch_calibrated(biased), batch_calibrated(some()), atol=1e-3)


def test_the_order_of_texts_by_log_odds_is_kept():
    before, after = some(), batch_calibrated(some())
    assert (np.argsort(before[:, 0] - before[:, 1]) == np.argsort(after[:, 0] - after[:, 1])).all()


def test_rows_stay_distributions():
    np.testing.assert_allclose(np.exp(batch_calibrated(some())).sum(axis=1), 1, atol=1e-12)


def test_even_shares_are_left_alone():
    even = np.log(np.array([[0.7, 0.3], [0.3, 0.7]]))
    np.testing.assert_allclose(batch_calibrated(even), even, atol=1e-6)


def test_a_teacher_that_is_certain_of_one_label_stays_finite():
    sure = log_softmax(np.array([[50.0, 0, 0], [60.0, 0, 1], [55.0, 3, 0]]), axis=1)
    assert np.isfinite(batch_calibrated(sure)).all()


def test_sharpening_keeps_every_favourite_and_one_changes_nothing():
    np.testing.assert_allclose(sharpened(some(), 1.0), some(), atol=1e-12)
    assert (sharpened(some(), 2.0).argmax(axis=1) == some().argmax(axis=1)).all()
    assert (sharpened(some(), 2.0).max(axis=1) >= some().max(axis=1)).all()


def test_squaring_squares_the_odds():
    np.testing.assert_allclose(np.exp(sharpened(np.log([[0.6, 0.4]]), 2.0)), [[0.36 / 0.52, 0.16 / 0.52]])


def mean_entropy(probs):
    return -(probs * np.log(probs)).sum(axis=1).mean()


def test_flattened_distributions_are_made_as_sure_as_they_were():
    sure = np.exp(some(bias=(0.0, 0.0, 0.0)))
    flat = 0.5 * sure + 0.5 * sure.mean(axis=0)
    found = as_sure_as(flat, sure)
    assert mean_entropy(flat) > mean_entropy(sure) + 0.05
    assert mean_entropy(found) == pytest.approx(mean_entropy(sure), abs=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_being_made_surer_gives_a_common_label_no_more_than_its_share():
    common = np.array([[0.8, 0.1, 0.1]] * 5)
    np.testing.assert_allclose(as_sure_as(common, np.eye(3)), common, atol=1e-9)


@pytest.mark.parametrize("surer", [np.full((4, 3), 1 / 3), np.exp(some())])
def test_what_is_sure_enough_is_left_alone(surer):
    probs = np.exp(some())
    assert as_sure_as(probs, surer) is probs


def test_a_label_is_as_probable_as_its_words_together():
    words = np.log(np.array([[0.1, 0.2, 0.3]]))
    np.testing.assert_allclose(np.exp(label_logprobs(words, [0, 1, 0], 2)), [[0.4, 0.2]])


@pytest.mark.parametrize("scale", [0.5, 20.0, 200.0])
@pytest.mark.parametrize("bias", [0.0, 300.0])
def test_the_prior_is_met_within_a_millionth_however_sure_the_teacher_is(scale, bias):
    rng = np.random.default_rng(0)
    logprobs = log_softmax(scale * rng.normal(size=(500, 3)) + np.array([bias, 0, -bias]), axis=1)
    prior = np.array([0.05, 0.15, 0.8])
    assert np.abs(np.exp(batch_calibrated(logprobs, prior)).mean(axis=0) - prior).max() < 1e-6


def test_the_shift_is_that_of_proportional_fitting():
    shifted = some()
    for _ in range(500):
        shifted = log_softmax(shifted - np.log(np.exp(shifted).mean(axis=0)), axis=1)
    np.testing.assert_allclose(batch_calibrated(some()), shifted, atol=1e-5)


def test_a_weight_counts_like_that_many_paths():
    doubled = np.vstack([some(), some()[:50]])
    weights = np.where(np.arange(200) < 50, 2.0, 1.0)
    np.testing.assert_allclose(batch_calibrated(some(), weights=weights), batch_calibrated(doubled)[:200], atol=1e-5)


def test_a_path_of_no_weight_is_shifted_with_the_others():
    weights = np.where(np.arange(200) < 50, 0.0, 1.0)
    np.testing.assert_allclose(batch_calibrated(some(), weights=weights)[50:], batch_calibrated(some()[50:]), atol=1e-5)
