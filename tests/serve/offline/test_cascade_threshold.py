from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.contract.scores.metrics import macro_f1
from potstill.serve.offline.cascade_threshold import CascadeProbs, cascade_loss, choose_threshold, held_out_loss


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
