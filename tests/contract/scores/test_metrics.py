import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn import metrics as sk

from potstill.contract.scores.metrics import accuracy, brier, difference, ece, log_loss, macro_f1, score, scores
from potstill.contract.scores.record import Score

pytestmark = pytest.mark.slow


def sample(seed, n=40, c=3):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(c), n), rng.integers(0, c, n)


seeds = st.integers(min_value=0, max_value=10_000)


@given(seeds)
def test_the_scores_are_those_of_scikit_learn(seed):
    probs, gold = sample(seed)
    labels = [0, 1, 2]
    assert accuracy(probs, gold) == pytest.approx(sk.accuracy_score(gold, probs.argmax(1)), abs=1e-12)
    assert macro_f1(probs, gold) == pytest.approx(
        sk.f1_score(gold, probs.argmax(1), labels=labels, average="macro", zero_division=0), abs=1e-12
    )
    assert log_loss(probs, gold) == pytest.approx(sk.log_loss(gold, probs, labels=labels), abs=1e-9)
    assert brier(probs, gold) == pytest.approx(sk.brier_score_loss(gold, probs, labels=labels, scale_by_half=False), abs=1e-12)


def test_macro_f1_by_hand():
    # Predicted 0 0 1, gold 0 1 1: F1 is 2/3 for class 0, 2/3 for class 1, and 0 for class 2, which never occurs.
    probs = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    assert macro_f1(probs, np.array([0, 1, 1])) == pytest.approx(4 / 9)


def test_calibration_error_by_hand():
    # Confidences 0.95 and 0.95, one right: |0.5 - 0.95|; 0.65, right: |1 - 0.65|. Weighted 2/3 and 1/3.
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65]])
    assert ece(probs, np.array([0, 1, 1])) == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.35)


def test_certain_and_right_is_perfect_by_every_score():
    probs = np.eye(3)
    gold = np.arange(3)
    assert (accuracy(probs, gold), macro_f1(probs, gold)) == (1, 1)
    assert (log_loss(probs, gold), brier(probs, gold), ece(probs, gold)) == (0, 0, 0)


def test_certain_and_wrong_has_the_highest_brier_score_and_even_shares_a_known_one():
    assert brier(np.array([[1.0, 0.0, 0.0]]), np.array([1])) == 2
    assert brier(np.full((5, 4), 0.25), np.array([0, 1, 2, 3, 3])) == pytest.approx(0.75)


def test_certain_and_wrong_costs_a_finite_log_loss():
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


@given(seeds)
def test_the_order_of_the_texts_changes_nothing(seed):
    probs, gold = sample(seed)
    order = np.random.default_rng(seed).permutation(len(gold))
    for metric in (accuracy, macro_f1, log_loss, brier, ece):
        assert metric(probs[order], gold[order]) == pytest.approx(metric(probs, gold), abs=1e-12)


def test_the_interval_holds_the_value_and_repeats():
    probs, gold = sample(1, n=60)
    first = scores(probs, gold)
    assert first == scores(probs, gold)
    for name, found in first.items():
        assert found.low <= found.value <= found.high, name
        assert found.n == 60


def test_the_interval_of_an_accuracy_is_about_that_of_the_normal_approximation():
    gold = np.array([0] * 200)
    probs = np.array([[0.9, 0.1]] * 150 + [[0.1, 0.9]] * 50)
    found = score(accuracy, probs, gold)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 200)
    assert found.value == 0.75
    assert (found.low, found.high) == (pytest.approx(0.75 - half, abs=0.015), pytest.approx(0.75 + half, abs=0.015))


def test_no_text_is_no_score():
    with pytest.raises(ValueError, match=r"^no text to score$"):
        score(accuracy, np.zeros((0, 2)), np.zeros(0, dtype=int))


def test_a_score_prints_with_its_interval():
    assert Score(value=0.6123, low=0.5701, high=0.653, n=9).as_text() == "0.612 [0.570, 0.653]"


@settings(max_examples=10)  # each has a whole bootstrap
@given(seeds)
def test_nothing_scores_higher_than_itself(seed):
    probs, gold = sample(seed)
    assert difference(macro_f1, probs, probs, gold) == Score(value=0, low=0, high=0, n=40)


def test_a_difference_turned_round_changes_its_sign():
    (first, gold), (second, _) = sample(1), sample(2)
    there, back = difference(macro_f1, first, second, gold), difference(macro_f1, second, first, gold)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_the_interval_of_a_difference_is_that_of_scipys_paired_bootstrap():
    (first, gold), (second, _) = sample(3, n=200), sample(4, n=200)
    right = [(probs.argmax(1) == gold).astype(float) for probs in (first, second)]
    theirs = bootstrap(
        right, lambda a, b, axis: (a - b).mean(axis), paired=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = difference(accuracy, first, second, gold)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_no_text_has_no_difference():
    with pytest.raises(ValueError, match=r"^no text to score$"):
        difference(accuracy, np.empty((0, 2)), np.empty((0, 2)), np.empty(0, dtype=np.int64))
