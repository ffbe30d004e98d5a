import numpy as np
import pytest
from scipy.special import softmax

from potstill.trainer.calibration.temperature import (
    MIN_TEXTS,
    apply_temperature,
    fit_temperature,
    match_teacher_entropy,
    negative_log_likelihood,
)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (400, 3))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_recovered(logits, temperature):
    found = fit_temperature(logits, softmax(logits / temperature, axis=1))
    assert found.value == pytest.approx(temperature, rel=1e-2)
    assert found.nll_after <= found.nll_before + 1e-9


def test_a_known_temperature_is_recovered_from_drawn_labels(logits):
    rng = np.random.default_rng(1)
    many = np.tile(logits, (25, 1))
    drawn = np.array([rng.multinomial(1, p) for p in softmax(many / 3, axis=1)], dtype=float)
    assert fit_temperature(many, drawn).value == pytest.approx(3, rel=0.05)


def test_no_temperature_nearby_does_better(logits):
    targets = softmax(logits / 2 + np.random.default_rng(2).normal(0, 1, logits.shape), axis=1)
    found = fit_temperature(logits, targets)
    for factor in (0.98, 1.02):
        assert found.nll_after <= negative_log_likelihood(logits, targets, found.value * factor)


def test_too_few_texts_leave_the_logits_alone_and_say_so(logits):
    few = logits[: MIN_TEXTS - 1]
    found = fit_temperature(few, softmax(few / 3, axis=1))
    assert found.value == 1
    assert found.as_text() == "1 (not fitted: 29 validation texts, at least 30 are needed)"


def test_enough_texts_are_reported_with_what_was_gained(logits):
    assert " on 400 texts)" in fit_temperature(logits, softmax(logits / 3, axis=1)).as_text()


def test_a_student_that_knows_nothing_is_flattened(logits):
    targets = np.random.default_rng(2).dirichlet([1, 1, 1], len(logits))
    assert apply_temperature(logits, fit_temperature(logits, targets).value).max() < 0.5


def test_a_student_that_is_always_right_gets_a_finite_temperature(logits):
    one_hot = np.eye(3)[logits.argmax(axis=1)]
    found = fit_temperature(logits, one_hot)
    assert 0 < found.value < 1


def test_temperature_changes_confidence_and_never_the_answer(logits):
    assert np.array_equal(apply_temperature(logits, 5.0).argmax(axis=1), logits.argmax(axis=1))
    assert apply_temperature(logits, 5.0).max() < apply_temperature(logits, 1.0).max()


def test_calibrated_rows_sum_to_one_even_for_huge_float32_logits():
    probs = apply_temperature(np.array([[1e5, -1e5, 0]], dtype=np.float32), 0.1)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)


def noisy_teacher(logits, noise):
    """Answers around what the student says, each with noise of its own."""
    return softmax(logits + np.random.default_rng(3).normal(0, noise, logits.shape), axis=1)


def mean_entropy(probs):
    return float(-(probs * np.log(probs)).sum(axis=1).mean())


def test_a_student_of_a_noisy_teacher_is_made_as_sure_as_the_teacher(logits):
    targets = noisy_teacher(logits, 0.7)
    fitted, found = fit_temperature(logits, targets), match_teacher_entropy(logits, targets)
    assert mean_entropy(apply_temperature(logits, found.value)) == pytest.approx(mean_entropy(targets), rel=1e-4)
    assert found.value < fitted.value == found.nll_optimum
    assert found.as_text().startswith(f"{found.value:.3f} (matches the teacher's entropy on 400 texts; ")


def test_drawn_from_a_truth_such_a_student_is_calibrated_and_the_fitted_one_is_too_modest():
    rng = np.random.default_rng(5)
    truth = rng.normal(0, 1.5, (20_000, 3))
    gold = np.array([rng.choice(3, p=p) for p in softmax(truth, axis=1)])
    targets = softmax(truth * 0.85 + rng.normal(0, 0.9, truth.shape), axis=1)  # as calibrated as the truth, and less often right
    right = np.mean(truth.argmax(axis=1) == gold)
    errors = [
        abs(apply_temperature(truth, temperature.value).max(axis=1).mean() - right)
        for temperature in (match_teacher_entropy(truth, targets), fit_temperature(truth, targets))
    ]
    assert errors[0] < 0.5 * errors[1]


def test_a_student_that_learned_nothing_is_not_made_sure(logits):
    targets = np.random.default_rng(2).dirichlet([0.2, 0.2, 0.2], len(logits))
    assert match_teacher_entropy(logits, targets) == fit_temperature(logits, targets)


def test_nobody_becomes_as_sure_as_a_teacher_that_votes(logits):
    one_hot = np.eye(3)[logits.argmax(axis=1)]
    assert match_teacher_entropy(logits, one_hot) == fit_temperature(logits, one_hot)


def test_too_few_texts_make_nobody_sure(logits):
    few = logits[: MIN_TEXTS - 1]
    assert match_teacher_entropy(few, softmax(few * 3, axis=1)).value == 1
