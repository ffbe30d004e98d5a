import numpy as np
import pytest
from scipy.special import expit

from potstill.contract.questions.kind_scores import tags_macro_f1
from potstill.trainer.joint.tags import MIN_THRESHOLD_TEXTS, expected_f1, fit_tag_biases, fit_tag_thresholds

N = 400


def drawn(seed=0, n=N):
    """(logits, soft targets that these logits give) of two tags, the second one rare."""
    logits = np.random.default_rng(seed).normal([0.0, -2.0], 1.5, size=(n, 2))
    return logits, expit(logits)


def test_expected_f1_of_certain_labels_is_f1():
    logits, _ = drawn()
    gold = (np.random.default_rng(1).random((N, 1)) < expit(logits[:, :1])).astype(int)
    probs = expit(logits[:, :1])
    assert expected_f1(probs[:, 0], gold[:, 0], 0.5) == pytest.approx(tags_macro_f1(probs, gold))


def test_a_shift_is_found_by_the_biases():
    logits, targets = drawn()
    np.testing.assert_allclose(fit_tag_biases(logits + np.array([1.0, -0.5]), targets), [-1.0, 0.5], atol=1e-3)


def test_biases_that_gain_nothing_are_not_used():
    logits, targets = drawn()
    noisy = (np.random.default_rng(2).random(targets.shape) < targets).astype(float)
    assert fit_tag_biases(logits, targets) is None
    assert fit_tag_biases(logits[:100], noisy[:100]) is None


def test_the_threshold_of_a_rare_tag_is_lower_and_the_best():
    logits, targets = drawn()
    probs = expit(logits)
    found = fit_tag_thresholds(probs, targets)
    assert found[1] < 0.5
    for t, least in enumerate(found):
        every = [expected_f1(probs[:, t], targets[:, t], one) for one in np.linspace(0.01, 0.99, 99)]
        assert expected_f1(probs[:, t], targets[:, t], least) >= max(every) - 1e-3


def test_few_texts_choose_no_threshold():
    logits, targets = drawn(n=MIN_THRESHOLD_TEXTS - 1)
    assert fit_tag_thresholds(expit(logits), targets) is None
