import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from potstill.trainer.evaluation.mcnemar import McNemar, mcnemar


def outcome(both, first, second, neither):
    """Who was right, from the four counts of the table."""
    return np.array([True] * (both + first) + [False] * (second + neither), dtype=bool), np.array(
        [True] * both + [False] * first + [True] * second + [False] * neither, dtype=bool
    )


def test_two_texts_against_eight_by_hand():
    # 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 2 * 56 / 1024
    assert mcnemar(*outcome(30, 2, 8, 5)) == McNemar(2, 8, pytest.approx(112 / 1024))


def test_one_text_more_than_even_by_hand():
    # 3 against 2: every outcome of 5 coins is at least as uneven
    assert mcnemar(*outcome(1, 3, 2, 1)).p == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(121, 59, 0.000004), (70, 59, 0.378688), (80, 59, 0.089452), (30, 60, 0.00206), (10, 30, 0.002221), (10, 10, 1.0)],
)
def test_the_p_values_are_those_that_statsmodels_is_tested_with(first, second, p):
    # statsmodels, test_mcnemar_exact: tables [[101, first], [second, 33]], p from the Vassar College calculator
    assert mcnemar(*outcome(101, first, second, 33)).p == pytest.approx(p, abs=5e-7)


def test_a_small_p_is_that_of_mlxtend():
    # mlxtend, test_exact: table [[101, 121], [59, 33]]
    assert mcnemar(*outcome(101, 121, 59, 33)).p == pytest.approx(4.4344492637555101e-06, rel=1e-9)


def test_classifiers_that_never_differ_do_not_differ():
    assert mcnemar(*outcome(4, 0, 0, 3)) == McNemar(0, 0, 1.0)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9), st.integers(0, 9))
def test_only_the_texts_that_one_of_the_two_got_right_count_and_the_order_does_not(first, second, both, neither):
    found = mcnemar(*outcome(both, first, second, neither))
    assert found.p == pytest.approx(mcnemar(*outcome(0, second, first, 0)).p)
    assert 0 <= found.p <= 1
    assert found.p == pytest.approx(min(1, 2 * binom.cdf(min(first, second), first + second, 0.5)))
