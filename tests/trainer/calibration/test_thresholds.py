import math

import numpy as np
import pytest
from scipy.stats import beta, binomtest
from sklearn.metrics import precision_recall_curve

from potstill.contract.errors import UserError
from potstill.contract.scores.bounds import Promise
from potstill.trainer.calibration.thresholds import MIN_ANSWERS, fit_thresholds, lowest_threshold, wilson

POINT = Promise("point")
LABELS = ["up", "flat", "down"]


def drawn(seed, n=600, sharpness=2.0):
    """Calibrated probabilities and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (n, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, np.array([rng.choice(3, p=row) for row in probs])


@pytest.mark.parametrize("wanted", [0.7, 0.8, 0.9])
def test_the_thresholds_are_the_lowest_of_scikit_learns_precision_recall_curve_that_reach_the_precision(wanted):
    probs, truth = drawn(0)
    found = fit_thresholds(probs, truth, LABELS, wanted, "gold", POINT).by_label
    for c, name in enumerate(LABELS):
        mine = probs.argmax(axis=1) == c
        precision, _, places = precision_recall_curve(truth[mine] == c, probs[mine, c])
        n_claims = np.array([(probs[mine, c] >= place).sum() for place in places])
        assert found[name] == min(places[(precision[:-1] >= wanted - 1e-9) & (n_claims >= MIN_ANSWERS)])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_answered_has_the_wanted_precision_and_a_higher_one_answers_less(seed):
    probs, truth = drawn(seed)
    n_answered = []
    for wanted in (0.6, 0.75, 0.85, 0.95):
        rows = fit_thresholds(probs, truth, LABELS, wanted, "gold", POINT).per_label
        assert all(row.precision >= wanted - 1e-9 and row.n >= MIN_ANSWERS for row in rows if row.threshold is not None)
        n_answered.append(sum(row.n for row in rows if row.threshold is not None))
    assert n_answered == sorted(n_answered, reverse=True)


def test_the_precision_holds_about_as_well_on_other_texts():
    found = fit_thresholds(*drawn(1, 3000), LABELS, 0.85, "gold", POINT).by_label
    probs, truth = drawn(2, 3000)
    least = np.array([found[name] for name in LABELS])
    answered = probs.max(axis=1) >= least[probs.argmax(axis=1)]
    assert (probs.argmax(axis=1) == truth)[answered].mean() == pytest.approx(0.85, abs=0.03)


def test_a_precision_that_all_answers_have_already_costs_no_answer():
    probs, _ = drawn(3)
    rows = fit_thresholds(probs, probs.argmax(axis=1), LABELS, 1.0, "gold", POINT).per_label
    assert sum(row.n for row in rows) == len(probs)
    assert all(row.recall == 1 for row in rows)


def test_equal_probabilities_are_claimed_together_or_not_at_all():
    confidence = np.array([0.9] * 10 + [0.8] * 4)
    right = np.array([True] * 10 + [True, False, False, False])
    assert lowest_threshold(confidence, right, 0.78) == 0.8
    assert lowest_threshold(confidence, right, 0.9) == 0.9
    assert lowest_threshold(confidence, np.array([False] + [True] * 9 + [False] * 4), 0.9) == 0.9
    assert lowest_threshold(confidence, np.array([False] * 2 + [True] * 12), 0.9) is None


def test_a_label_with_too_few_answers_or_none_is_never_answered_and_it_says_so():
    probs = np.array([[0.8, 0.15, 0.05]] * 30 + [[0.2, 0.7, 0.1]] * 9)
    truth = np.array([0] * 30 + [1] * 9)
    found = fit_thresholds(probs, truth, LABELS, 0.9, "teacher", POINT)
    assert found.by_label == {"up": 0.8, "flat": None, "down": None}
    lines = found.as_text().splitlines()
    assert lines[1].split() == ["up", "0.800", "1.000", "[0.886,", "1.000]", "1.000", "30"]
    assert lines[2].split()[:2] == ["flat", "never"]
    assert lines[4] == "flat: always abstains; 9 texts are answered with it, at least 10 are needed"
    assert lines[5] == "down: always abstains; 0 texts are answered with it, at least 10 are needed"
    assert lines[6] == "30 of 39 texts are answered (77%); the student abstains from the others"
    assert lines[7] == (
        "precision 0.9 was reached on these 39 texts, and on others about every second time: agreement with the teacher, not with people, "
        "on the held-out texts, which chose epoch and temperature too; for people's labels: potstill calibrate CHECKPOINT GOLD"
    )


def test_a_precision_out_of_reach_leaves_the_label_abstained_from():
    probs = np.array([[0.8, 0.1, 0.1]] * 40)
    found = fit_thresholds(probs, np.array([0, 1] * 20), LABELS, 0.9, "gold", POINT)
    assert found.by_label["up"] is None
    assert "up: always abstains; no threshold reaches 0.9 with 10 answers" in found.as_text()
    assert found.as_text().endswith(
        "precision 0.9 was reached on these 40 texts, and on others about every second time, by people's labels"
    )


@pytest.mark.parametrize("wanted", [0.0, -1.0, 1.01, float("nan")])
def test_a_precision_out_of_its_range_is_refused(wanted):
    with pytest.raises(UserError, match=f"^precision is {wanted:g}; it must be above 0 and at most 1$"):
        fit_thresholds(*drawn(0, 50), LABELS, wanted, "gold", POINT)


def test_too_few_texts_are_refused():
    with pytest.raises(UserError, match="^there are 9 texts to choose thresholds on; give at least 10$"):
        fit_thresholds(*drawn(0, 9), LABELS, 0.9, "gold", POINT)


@pytest.mark.parametrize(("n_right", "n"), [(0, 10), (7, 10), (10, 10), (93, 100)])
def test_the_interval_of_a_share_is_that_of_scipy(n_right, n):
    expected = binomtest(n_right, n).proportion_ci(method="wilson")
    assert wilson(n_right, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


# --- as a bound


def true_precisions(thresholds, probs):
    """By label, of calibrated probabilities without number: an answer is right as often as its probability says."""
    answers, top = probs.argmax(axis=1), probs.max(axis=1)
    found = {}
    for c, name in enumerate(LABELS):
        least = thresholds[name]
        if least is not None:
            found[name] = top[(answers == c) & (top >= least)].mean()
    return found


def test_all_labels_have_the_precision_on_texts_to_come_as_often_as_the_confidence_says():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2.0, (200_000, 3))
    fresh = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    missed, by_point, n_thresholds = 0, 0, 0
    for seed in range(60):
        texts = drawn(seed, 900)
        bound = fit_thresholds(*texts, LABELS, 0.85, "gold", Promise(confidence=0.9)).by_label
        n_thresholds += sum(least is not None for least in bound.values())
        missed += any(value < 0.85 for value in true_precisions(bound, fresh).values())
        point = fit_thresholds(*texts, LABELS, 0.85, "gold", POINT).by_label
        by_point += any(value < 0.85 for value in true_precisions(point, fresh).values())
    assert n_thresholds > 120
    assert missed <= 6 + 2 * np.sqrt(60 * 0.1 * 0.9)
    assert by_point > 30  # the rule that the bound stands in place of


def test_every_threshold_of_a_bound_passes_the_exact_test_at_its_share_of_the_error():
    probs, truth = drawn(2, 3000)
    found = fit_thresholds(probs, truth, LABELS, 0.8, "gold", Promise(confidence=0.95))
    assert (found.precision.confidence, found.precision.n, found.n_tested) == (0.95, 3000, 2940)
    for row in found.per_label:
        assert beta.ppf(0.05, row.n_right, row.n - row.n_right + 1) > 0.8
    assert found.as_text().endswith(
        "precision 0.8 holds for every label on texts of this kind, with 95% confidence (3000 texts), by people's labels"
    )


def test_more_confidence_never_answers_more():
    n_answered = []
    for confidence in (0.6, 0.9, 0.99):
        rows = fit_thresholds(*drawn(4, 2000), LABELS, 0.85, "gold", Promise(confidence=confidence)).per_label
        n_answered.append(sum(row.n for row in rows if row.threshold is not None))
    assert n_answered == sorted(n_answered, reverse=True) and n_answered[0] > n_answered[-1]


def test_a_label_without_enough_texts_for_a_bound_says_how_many_it_takes():
    probs = np.array([[0.8, 0.15, 0.05]] * 200 + [[0.2, 0.7, 0.1]] * 25)
    found = fit_thresholds(probs, probs.argmax(axis=1), LABELS, 0.9, "gold")
    assert found.by_label["up"] is not None and found.by_label["flat"] is None
    text, n_flat = found.as_text(), found.per_label[1].n
    assert 15 < n_flat < 25
    assert (
        f"flat: always abstains; {n_flat} texts are answered with it, but 0.9 with 95% confidence takes at least 39 right ones, or about "
        f"{math.ceil(39 * 225 / n_flat)} texts" in text
    )
    assert "down: always abstains; 0 texts are answered with it, but 0.9 with 95% confidence takes at least 39 right ones\n" in text
    wrong = fit_thresholds(probs, np.zeros(225, int), LABELS, 0.9, "gold", Promise(confidence=0.6))
    assert (
        "flat: always abstains; no threshold shows 0.9 with 60% confidence on " in wrong.as_text()
        and "answers: ask for less" in wrong.as_text()
    )


def test_a_precision_of_one_cannot_be_shown():
    with pytest.raises(UserError, match="^precision is 1, which no number of texts can show; ask for less, or .* --rule point$"):
        fit_thresholds(*drawn(0, 50), LABELS, 1.0, "gold")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"rule": "luck"}, "^rule is 'luck'; allowed: bound, point$"),
        ({"confidence": 1.0}, "^confidence is 1; it must be at least 0.5 and below 1$"),
        ({"confidence": 0.4}, "^confidence is 0.4; it must be at least 0.5 and below 1$"),
    ],
)
def test_a_promise_out_of_its_range_is_refused(wish, words):
    with pytest.raises(UserError, match=words):
        Promise(**wish)


def test_nothing_tried_says_nothing():
    assert wilson(0, 0) == (0, 1)
