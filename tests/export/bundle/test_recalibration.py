from __future__ import annotations

import numpy as np
import pytest
import torch

from potstill.contract.questions.decision import Conformal
from potstill.export.bundle.recalibration import (
    MIN_TEXTS,
    best_on_grid,
    carry_cutoff,
    carry_label_sets,
    carry_thresholds,
    correct_temperature,
    cross_entropy,
)

pytestmark = pytest.mark.slow

LABELS = ["up", "flat", "down"]
CONFORMAL = Conformal(coverage=0.9, quantile=0.7, n=200, source="gold")


def probs(seed, sharpness=1.0, n=300):
    logits = np.random.default_rng(seed).normal(0, 1, (n, 3)) * sharpness
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_equal_probabilities_change_nothing():
    thresholds = {"up": 0.55, "flat": None, "down": 0.6}
    assert carry_thresholds(thresholds, LABELS, probs(0), probs(0)) == thresholds
    assert carry_label_sets(CONFORMAL, probs(0), probs(0)).quantile == pytest.approx(0.7, abs=1e-12)
    assert carry_thresholds(None, LABELS, probs(0), probs(0)) is None
    assert carry_label_sets(None, probs(0), probs(0)) is None


@pytest.mark.parametrize("sharpness", [0.8, 1.02, 1.3])
def test_as_many_texts_pass_a_threshold_as_before(sharpness):
    thresholds = {"up": 0.55, "down": 0.6}
    before, after = probs(0), probs(0, sharpness)
    carried = carry_thresholds(thresholds, LABELS, before, after)
    for name in thresholds:
        c = LABELS.index(name)
        n_before = ((before.argmax(axis=1) == c) & (before[:, c] >= thresholds[name])).sum()
        n_after = ((after.argmax(axis=1) == c) & (after[:, c] >= carried[name])).sum()
        assert abs(int(n_after) - int(n_before)) <= 2  # it is moved by rank, and kept off the very probability of a text


@pytest.mark.parametrize("sharpness", [0.8, 1.02, 1.3])
def test_the_label_sets_keep_their_size(sharpness):
    before, after = probs(0), probs(0, sharpness)
    carried = carry_label_sets(CONFORMAL, before, after)
    sizes = [(1 - values <= made.quantile).sum() / len(values) for values, made in ((before, CONFORMAL), (after, carried))]
    assert sizes[1] == pytest.approx(sizes[0], abs=0.03)
    assert (carried.coverage, carried.n, carried.source) == (0.9, 200, "gold")


def test_a_threshold_that_few_texts_pass_or_that_few_reach_now_stays_as_it_was():
    before, after = np.linspace(0.4, 1, 100), np.linspace(0.3, 0.9, 100)
    assert carry_cutoff(0.99, before, after) == 0.99
    assert carry_cutoff(0.5, before, after[:5]) == 0.5
    assert carry_cutoff(0.5, before, after) == pytest.approx(0.4)


def test_what_is_carried_stays_a_probability():
    assert carry_cutoff(0.05, np.full(20, 0.9), np.full(20, 0.1)) == 0
    assert carry_cutoff(0.9, np.full(20, 0.9), np.full(20, 1.0)) == 1


RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(400, 3)) * 2
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def test_equal_logits_change_nothing():
    assert correct_temperature(1.37, LOGITS, LOGITS, PROBS) == 1.37


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.2, 3.0])
def test_logits_that_grew_by_a_factor_are_divided_by_it(factor):
    assert correct_temperature(1.3, LOGITS, LOGITS * factor, PROBS) == pytest.approx(1.3 * factor, rel=0.006)


def test_the_fit_finds_the_temperature_that_made_the_targets():
    assert best_on_grid(LOGITS * 1.7, PROBS) == pytest.approx(1.7, rel=0.006)


def test_too_few_texts_correct_nothing():
    few = slice(MIN_TEXTS - 1)
    assert correct_temperature(1.3, LOGITS[few], LOGITS[few] * 2, PROBS[few]) == 1.3


def test_the_loss_is_that_of_torch():
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS / 1.4), torch.tensor(PROBS[::-1].copy()))
    assert cross_entropy(LOGITS, PROBS[::-1], 1.4) == pytest.approx(float(expected), abs=1e-12)
