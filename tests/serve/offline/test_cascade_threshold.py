from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from potstill.contract.scores.metrics import macro_f1
from potstill.contract.scores.switches import SWITCHES
from potstill.serve.offline.cascade_threshold import (
    CascadeProbs,
    cascade_loss,
    certified_threshold,
    choose_threshold,
    held_out_loss,
    stated_loss,
)
from potstill.serve.offline.net_loss import probability_of_less


def drawn(seed, n=60, gold=True, skill=2.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    fast, slow = (
        rng.dirichlet(np.ones(3), n) + strength * np.eye(3)[truth] * rng.random((n, 1)) for strength in (skill / 4, skill)
    )
    fast, slow = (rows / rows.sum(axis=1, keepdims=True) for rows in (fast, slow))
    return CascadeProbs(fast, slow, truth if gold else None)


def expected_probs(answered, sure):
    return np.where(answered.fast.max(axis=1, keepdims=True) >= sure, answered.fast, answered.slow)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), gold=st.booleans(), max_loss=st.sampled_from([0, 0.01, 0.05, 0.1, 0.3]))
def test_neither_the_chosen_threshold_nor_a_stricter_one_loses_more_than_allowed(seed, gold, max_loss):
    answered = drawn(seed, gold=gold)
    threshold = choose_threshold(answered, max_loss)
    confidence = answered.fast.max(axis=1)
    assert threshold.loss == cascade_loss(answered, threshold.sure) <= max_loss
    assert threshold.share == np.mean(confidence >= threshold.sure)
    assert all(cascade_loss(answered, step) <= max_loss for step in confidence[confidence >= threshold.sure])
    below = confidence[confidence < threshold.sure]
    assert not len(below) or cascade_loss(answered, below.max()) > max_loss  # one text more would lose too much


@pytest.mark.parametrize("gold", [True, False])
def test_the_loss_is_that_of_the_mixed_answers(gold):
    answered = drawn(1, gold=gold)
    if gold:
        expected = macro_f1(answered.slow, answered.gold) - macro_f1(expected_probs(answered, 0.6), answered.gold)
    else:
        expected = np.mean(expected_probs(answered, 0.6).argmax(axis=1) != answered.slow.argmax(axis=1))
    assert cascade_loss(answered, 0.6) == pytest.approx(expected, abs=1e-15)


def test_a_fast_graph_that_is_always_right_answers_everything_and_one_that_never_is_nothing():
    right = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 0.8 + 0.05
    gold = np.array([0, 1, 2, 0, 1, 2])
    everything = choose_threshold(CascadeProbs(right, right, gold), 0.0)
    assert (everything.share, everything.loss) == (1.0, 0.0)
    nothing = choose_threshold(CascadeProbs(np.roll(right, 1, axis=1), right, gold), 0.0)
    assert nothing.share == 0 and nothing.sure > 1


def test_a_lucky_dip_of_the_loss_is_not_gone_down_to():
    gold = np.array([0, 1, 0, 1])
    fast = np.array([[0.05, 0.95], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])  # the surest answer is wrong, the rest is right
    slow = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])  # right on the first only
    assert cascade_loss(CascadeProbs(fast, slow, gold), 0.0) < 0 < cascade_loss(CascadeProbs(fast, slow, gold), 0.95)
    assert choose_threshold(CascadeProbs(fast, slow, gold), 0.0).share == 0


def test_the_threshold_lies_between_two_texts():
    answered = drawn(3)
    threshold = choose_threshold(answered, 0.05)
    confidence = answered.fast.max(axis=1)
    assert confidence[confidence < threshold.sure].max() < threshold.sure <= confidence[confidence >= threshold.sure].min()
    assert threshold.sure not in confidence


def test_the_held_out_loss_is_that_of_each_half_with_the_threshold_of_the_other():
    answered = drawn(5)
    halves = [CascadeProbs(answered.fast[i::2], answered.slow[i::2], answered.gold[i::2]) for i in (0, 1)]
    expected = [
        cascade_loss(half, choose_threshold(other, 0.02).sure) for half, other in zip(halves, reversed(halves), strict=True)
    ]
    assert held_out_loss(answered, 0.02) == pytest.approx(np.mean(expected))


# --- as a bound


def alike(rng, n, gold):
    """Answers of two graphs to two labels, of which the loss below any threshold is known: see `true_loss`."""
    sure, truth = rng.uniform(0.5, 1, n), rng.integers(0, 2, n)
    slow_right = rng.random(n) < 0.9
    same = rng.random(n) < 0.6 + 0.4 * sure
    slow = np.where(slow_right, truth, 1 - truth)
    fast = np.where(same, slow, 1 - slow)
    rows = [
        np.where(np.arange(2) == answers[:, None], top[:, None], 1 - top[:, None])
        for answers, top in ((fast, sure), (slow, np.full(n, 0.9)))
    ]
    return CascadeProbs(*rows, truth if gold else None)


def true_loss(sure, gold):
    """The share of texts answered otherwise, or the accuracy lost: an integral over the texts from the threshold on."""
    tops = np.linspace(max(sure, 0.5), 1, 2001)
    differs = np.mean(0.4 - 0.4 * tops) * 2 * (1 - max(sure, 0.5))
    return differs * (0.9 - 0.1) if gold else differs


@pytest.mark.parametrize("gold", [True, False])
def test_the_loss_on_texts_to_come_is_above_the_limit_no_oftener_than_the_confidence_allows(gold):
    rng, exceeded, by_point, shares = np.random.default_rng(1), 0, 0, []
    for _ in range(40):
        answered = alike(rng, 1500, gold)
        found = certified_threshold(answered, 0.03, 0.9)
        assert found.loss == stated_loss(answered, found.sure) <= 0.03
        exceeded += found.share > 0 and true_loss(found.sure, gold) > 0.03
        by_point += true_loss(choose_threshold(answered, 0.03).sure, gold) > 0.03
        shares.append(found.share)
    best = np.mean([true_loss(sure, gold) <= 0.03 for sure in np.linspace(0.5, 1, 1000)])
    assert exceeded <= 4 + 2 * np.sqrt(40 * 0.1 * 0.9)
    assert best - 0.2 < np.mean(shares) < best
    assert by_point > 10


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), max_loss=st.sampled_from([0.05, 0.1, 0.3]))
def test_the_certified_disagreement_is_within_clopper_and_pearson_s_bound_and_one_more_would_not_be(seed, max_loss):
    answered = drawn(seed, n=200, gold=False)
    found = certified_threshold(answered, max_loss, 0.95)
    tops, differs = answered.fast.max(axis=1), answered.fast.argmax(axis=1) != answered.slow.argmax(axis=1)
    n_wrong = int((differs & (tops >= found.sure)).sum())
    if found.share:
        assert beta.ppf(0.95, n_wrong + 1, 200 - n_wrong) <= max_loss
    below = tops[tops < found.sure]
    if len(below):
        n_more = int((differs & (tops >= below.max())).sum())
        assert beta.ppf(0.95, n_more + 1, 200 - n_more) > max_loss


def test_the_certified_lost_accuracy_passes_the_exact_test_and_the_next_threshold_does_not():
    rng = np.random.default_rng(2)
    answered = alike(rng, 1500, True)
    found = certified_threshold(answered, 0.03, 0.95)
    right = [rows.argmax(axis=1) == answered.gold for rows in (answered.fast, answered.slow)]

    def chance(sure):
        kept = answered.fast.max(axis=1) >= sure
        return probability_of_less(int((kept & ~right[0] & right[1]).sum()), int((kept & right[0] & ~right[1]).sum()), 1500, 0.03)

    assert found.sure in SWITCHES and chance(found.sure) <= 0.05 < chance(SWITCHES[found.sure > SWITCHES].max())


@pytest.mark.parametrize("gold", [True, False])
def test_with_too_few_texts_or_no_loss_allowed_nothing_is_certified_and_a_full_loss_always_is(gold):
    right = np.tile([[0.9, 0.1]], (290, 1))
    answered = CascadeProbs(right, right, np.zeros(290, int) if gold else None)
    assert certified_threshold(answered, 0.01, 0.95).share == 0
    assert certified_threshold(answered, 0.0, 0.95).share == 0
    assert certified_threshold(answered, 0.011, 0.95).share == 1
    wrong = CascadeProbs(right[:, ::-1], right, np.zeros(290, int) if gold else None)
    assert certified_threshold(wrong, 0.5, 0.95).share == 0
    assert certified_threshold(wrong, 1.0, 0.95).share == 1
