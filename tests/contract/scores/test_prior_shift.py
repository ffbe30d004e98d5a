import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, multivariate_normal

from potstill.contract.scores import prior_shift
from potstill.contract.scores.prior_shift import MIN_SHARE, adjusted, chi_squared_tail, estimate

pytestmark = pytest.mark.slow

MEANS = np.array([[0.0, 0.0], [2.0, 0.5], [0.5, 2.0]])
SOURCE = np.array([0.5, 0.3, 0.2])


def posterior(points, shares):
    """Exact probabilities of three round clouds of points that occur in the given shares."""
    density = np.stack([multivariate_normal(mean).pdf(points) for mean in MEANS], axis=1)
    weights = density * shares
    return weights / weights.sum(axis=1, keepdims=True)


def points(shares, n, seed):
    rng = np.random.default_rng(seed)
    return MEANS[rng.choice(3, n, p=shares)] + rng.normal(size=(n, 2))


@pytest.mark.parametrize("shares", [(0.2, 0.3, 0.5), (0.8, 0.1, 0.1), (0.05, 0.05, 0.9)])
def test_the_true_shares_are_found_within_their_interval_and_the_adjusted_probabilities_are_the_exact_ones(shares):
    shares = np.array(shares)
    where = points(shares, 3000, 1)
    found = estimate(posterior(where, SOURCE), SOURCE)
    np.testing.assert_allclose(found.shares, shares, atol=0.04)
    assert (found.low <= found.shares).all() and (found.shares <= found.high).all()
    assert found.p_value < 1e-6
    np.testing.assert_allclose(adjusted(posterior(where, SOURCE), found), posterior(where, found.shares), atol=1e-9)


def test_texts_like_those_of_the_source_show_no_shift_more_often_than_the_level_says(monkeypatch):
    monkeypatch.setattr(prior_shift, "N_RESAMPLES", 1)  # the test needs no intervals
    p_values = [estimate(posterior(points(SOURCE, 200, seed), SOURCE), SOURCE).p_value for seed in range(60)]
    assert np.mean(np.array(p_values) < 0.05) < 0.15
    assert 0.3 < np.mean(p_values) < 0.7


def test_the_bias_does_to_logits_what_the_adjustment_does_to_probabilities():
    probs = posterior(points((0.2, 0.2, 0.6), 300, 2), SOURCE)
    found = estimate(probs, SOURCE)
    weights = np.exp(np.log(probs) + found.bias)
    np.testing.assert_allclose(adjusted(probs, found), weights / weights.sum(axis=1, keepdims=True), atol=1e-12)


def test_source_shares_equal_to_the_mean_probability_are_a_fixed_point():
    probs = posterior(points((0.2, 0.2, 0.6), 300, 3), SOURCE)
    found = estimate(probs, probs.mean(axis=0))
    np.testing.assert_allclose(found.shares, probs.mean(axis=0), atol=1e-5)
    assert found.p_value == pytest.approx(1, abs=1e-3)


def test_a_label_that_no_text_has_stays_possible():
    found = estimate(np.tile([0.98, 0.01, 0.01], (200, 1)), SOURCE)
    assert found.shares.min() == pytest.approx(MIN_SHARE, rel=0.01)
    assert np.isfinite(found.bias).all()
    assert found.shares.sum() == pytest.approx(1)


def test_the_same_texts_give_the_same_shift():
    probs = posterior(points((0.2, 0.2, 0.6), 100, 4), SOURCE)
    first, second = estimate(probs, SOURCE), estimate(probs, SOURCE)
    assert first.p_value == second.p_value and np.array_equal(first.low, second.low)


@given(st.integers(0, 2000), st.integers(1, 30))
def test_the_tail_of_chi_squared_is_that_of_scipy(tenths, freedom):
    value = tenths / 10
    assert chi_squared_tail(value, freedom) == pytest.approx(chi2.sf(value, freedom), rel=1e-9, abs=1e-300)


def test_no_text_is_an_error():
    with pytest.raises(ValueError, match="no text to estimate"):
        estimate(np.empty((0, 3)), SOURCE)
