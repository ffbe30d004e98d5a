"""Exact bounds on a share, against scipy's binomial distribution and beta quantiles."""

import pytest
from scipy import stats

from potstill.contract.scores.bounds import fewest_texts, lower_bound, tail, upper_bound

COUNTS = [(0, 1), (1, 1), (0, 40), (40, 40), (3, 40), (37, 40), (900, 1000), (999, 1000), (5, 20_000)]


@pytest.mark.parametrize(("n_right", "n"), COUNTS)
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_the_tail_is_the_binomial_distribution_s(n_right, n, share):
    assert tail(n_right, n, share) == pytest.approx(stats.binom.sf(n_right - 1, n, share), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("n_right", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_bounds_are_clopper_and_pearson_s(n_right, n, confidence):
    low = 0.0 if n_right == 0 else stats.beta.ppf(1 - confidence, n_right, n - n_right + 1)
    high = 1.0 if n_right == n else stats.beta.ppf(confidence, n_right + 1, n - n_right)
    assert lower_bound(n_right, n, confidence) == pytest.approx(low, rel=1e-7)
    assert upper_bound(n_right, n, confidence) == pytest.approx(high, rel=1e-7)


def test_a_bound_is_above_the_true_share_no_oftener_than_it_says():
    share, n = 0.87, 150
    worst = stats.binom.pmf(range(n + 1), n, share)  # every outcome with its probability: nothing is drawn
    wrong = sum(p for n_right, p in enumerate(worst) if lower_bound(n_right, n, 0.95) > share)
    assert 0.01 < wrong <= 0.05


@pytest.mark.parametrize(("share", "confidence", "n"), [(0.9, 0.95, 29), (0.95, 0.95, 59), (0.5, 0.5, 1), (0.99, 0.95, 299)])
def test_so_many_right_texts_certify_and_one_fewer_does_not(share, confidence, n):
    assert fewest_texts(share, confidence) == n
    assert lower_bound(n, n, confidence) >= share
    assert n == 1 or lower_bound(n - 1, n - 1, confidence) < share


@pytest.mark.parametrize(
    ("n_right", "n", "share", "words"), [(2, 1, 0.5, "2 of 1 is no share"), (1, 2, float("nan"), "share is nan")]
)
def test_counts_and_shares_out_of_range_are_refused(n_right, n, share, words):
    with pytest.raises(ValueError, match=words):
        tail(n_right, n, share)
