from __future__ import annotations

import numpy as np
import pytest
import torch

from potstill.export.bundle.calibrate import MIN_TEXTS, corrected_temperature, cross_entropy, fitted

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(400, 3)) * 2
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def test_equal_logits_change_nothing():
    assert corrected_temperature(1.37, LOGITS, LOGITS, PROBS) == 1.37


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.2, 3.0])
def test_logits_that_grew_by_a_factor_are_divided_by_it(factor):
    assert corrected_temperature(1.3, LOGITS, LOGITS * factor, PROBS) == pytest.approx(1.3 * factor, rel=0.006)


def test_the_fit_finds_the_temperature_that_made_the_targets():
    assert fitted(LOGITS * 1.7, PROBS) == pytest.approx(1.7, rel=0.006)


def test_too_few_texts_correct_nothing():
    few = slice(MIN_TEXTS - 1)
    assert corrected_temperature(1.3, LOGITS[few], LOGITS[few] * 2, PROBS[few]) == 1.3


def test_the_loss_is_that_of_torch():
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS / 1.4), torch.tensor(PROBS[::-1].copy()))
    assert cross_entropy(LOGITS, PROBS[::-1], 1.4) == pytest.approx(float(expected), abs=1e-12)
