"""Agreement is what scikit-learn and the package `krippendorff` say it is."""

import math
import warnings

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from potstill.review.people.agreement import MISSING, cohen_kappa, krippendorff_alpha, share_with_interval

RATINGS = st.integers(2, 5).flatmap(
    lambda n_labels: st.tuples(
        st.just(n_labels),
        st.integers(2, 4).flatmap(
            lambda raters: st.lists(
                st.lists(st.integers(-1, n_labels - 1), min_size=raters, max_size=raters), min_size=1, max_size=30
            )
        ),
    )
)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1))
    )
)
def test_kappa_is_that_of_scikit_learn(drawn):
    n_labels, pairs = drawn
    one, other = np.array(pairs).T
    found = cohen_kappa(one, other, n_labels)
    if len(set(one) | set(other)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(one, other, labels=range(n_labels)), abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "interval"])
@given(RATINGS)
def test_alpha_is_that_of_the_package_krippendorff(level, drawn):
    n_labels, units = drawn
    ratings = np.array(units).T
    values = [float(v) ** 2 for v in range(n_labels)] if level == "interval" else None
    found = krippendorff_alpha(ratings, values, n_labels)
    worth = np.array(values or range(n_labels), dtype=float)
    data = np.where(ratings == MISSING, np.nan, worth[np.maximum(ratings, 0)])
    paired = ratings[:, (ratings != MISSING).sum(axis=0) > 1]
    if len(set(paired[paired != MISSING])) < 2:
        assert math.isnan(found)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = krippendorff.alpha(reliability_data=data, level_of_measurement=level)
    assert found == pytest.approx(expected, abs=1e-9)


def test_perfect_agreement_is_one_and_chance_is_none():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    assert cohen_kappa(labels, labels, 3) == 1
    assert krippendorff_alpha(np.stack([labels, labels, labels]), None, 3) == 1
    other = rng.integers(0, 3, 300)
    assert abs(cohen_kappa(labels, other, 3)) < 0.1


def test_an_interval_holds_its_share_and_narrows_with_more_texts():
    few, many = share_with_interval(7, 10), share_with_interval(700, 1000)
    assert few.low < 0.7 < few.high and many.low < 0.7 < many.high and many.high - many.low < few.high - few.low
    assert (few.low, few.high) == pytest.approx(
        (0.3967781, 0.8922087), abs=1e-6
    )  # statsmodels' proportion_confint(7, 10, method="wilson")
    assert math.isnan(share_with_interval(0, 0).share)
