from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.contract.scores.metrics import macro_f1
from potstill.serve.offline.cascade_switch import Answered, choose, held_out_loss, loss


def drawn(seed, n=60, gold=True, skill=2.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    fast, slow = (
        rng.dirichlet(np.ones(3), n) + strength * np.eye(3)[truth] * rng.random((n, 1)) for strength in (skill / 4, skill)
    )
    fast, slow = (rows / rows.sum(axis=1, keepdims=True) for rows in (fast, slow))
    return Answered(fast, slow, truth if gold else None)


def mixed(answered, sure):
    return np.where(answered.fast.max(axis=1, keepdims=True) >= sure, answered.fast, answered.slow)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), gold=st.booleans(), max_loss=st.sampled_from([0, 0.01, 0.05, 0.1, 0.3]))
def test_neither_the_chosen_switch_nor_a_stricter_one_loses_more_than_allowed(seed, gold, max_loss):
    answered = drawn(seed, gold=gold)
    switch = choose(answered, max_loss)
    confidence = answered.fast.max(axis=1)
    assert switch.loss == loss(answered, switch.sure) <= max_loss
    assert switch.share == np.mean(confidence >= switch.sure)
    assert all(loss(answered, step) <= max_loss for step in confidence[confidence >= switch.sure])
    below = confidence[confidence < switch.sure]
    assert not len(below) or loss(answered, below.max()) > max_loss  # one text more would lose too much


@pytest.mark.parametrize("gold", [True, False])
def test_the_loss_is_that_of_the_mixed_answers(gold):
    answered = drawn(1, gold=gold)
    if gold:
        expected = macro_f1(answered.slow, answered.gold) - macro_f1(mixed(answered, 0.6), answered.gold)
    else:
        expected = np.mean(mixed(answered, 0.6).argmax(axis=1) != answered.slow.argmax(axis=1))
    assert loss(answered, 0.6) == pytest.approx(expected, abs=1e-15)


def test_a_fast_graph_that_is_always_right_answers_everything_and_one_that_never_is_nothing():
    right = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 0.8 + 0.05
    gold = np.array([0, 1, 2, 0, 1, 2])
    everything = choose(Answered(right, right, gold), 0.0)
    assert (everything.share, everything.loss) == (1.0, 0.0)
    nothing = choose(Answered(np.roll(right, 1, axis=1), right, gold), 0.0)
    assert nothing.share == 0 and nothing.sure > 1


def test_a_lucky_dip_of_the_loss_is_not_gone_down_to():
    gold = np.array([0, 1, 0, 1])
    fast = np.array([[0.05, 0.95], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])  # the surest answer is wrong, the rest is right
    slow = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])  # right on the first only
    assert loss(Answered(fast, slow, gold), 0.0) < 0 < loss(Answered(fast, slow, gold), 0.95)
    assert choose(Answered(fast, slow, gold), 0.0).share == 0


def test_the_switch_lies_between_two_texts():
    answered = drawn(3)
    switch = choose(answered, 0.05)
    confidence = answered.fast.max(axis=1)
    assert confidence[confidence < switch.sure].max() < switch.sure <= confidence[confidence >= switch.sure].min()
    assert switch.sure not in confidence


def test_the_held_out_loss_is_that_of_each_half_with_the_switch_of_the_other():
    answered = drawn(5)
    halves = [Answered(answered.fast[i::2], answered.slow[i::2], answered.gold[i::2]) for i in (0, 1)]
    expected = [loss(half, choose(other, 0.02).sure) for half, other in zip(halves, reversed(halves), strict=True)]
    assert held_out_loss(answered, 0.02) == pytest.approx(np.mean(expected))
