import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

from potstill.contract.scores import metrics
from potstill.trainer.calibration.thresholds import wilson
from potstill.trainer.evaluation.curves import average_precision, confusion, precision_at_recall, precision_recall, reliability


def test_a_curve_by_hand_with_equals_taken_together():
    probs, is_label = np.array([0.9, 0.7, 0.7, 0.2]), np.array([True, False, True, False])
    curve = precision_recall("up", probs, is_label, probs >= 0.7)
    assert curve.thresholds.tolist() == [0.9, 0.7, 0.2]
    assert curve.precision.tolist() == [1, pytest.approx(2 / 3), 0.5]
    assert curve.recall.tolist() == [0.5, 1, 1]
    assert curve.chosen == (pytest.approx(2 / 3), 1)


def test_a_label_that_is_never_answered_has_no_chosen_point():
    assert precision_recall("up", np.array([0.4]), np.array([True]), np.array([False])).chosen is None


def test_the_area_is_scikit_learns_average_precision():
    rng = np.random.default_rng(0)
    probs, is_label = rng.integers(0, 20, 300) / 20, rng.random(300) < 0.3
    curve = precision_recall("up", probs, is_label, probs > 2)
    assert curve.area == pytest.approx(average_precision_score(is_label, probs))


def test_the_bins_add_up_to_the_expected_calibration_error():
    rng = np.random.default_rng(1)
    probs, gold = rng.dirichlet([1, 1, 1], 400), rng.integers(0, 3, 400)
    bins = reliability(probs, gold)
    assert sum(found.n for found in bins) == 400
    assert sum(found.n * abs(found.accuracy - found.confidence) for found in bins) / 400 == pytest.approx(metrics.ece(probs, gold))
    assert all(found.interval[0] <= found.accuracy <= found.interval[1] for found in bins)


def test_wilsons_interval_is_scipys_and_stays_within_0_and_1():
    assert wilson(8, 10) == pytest.approx(tuple(binomtest(8, 10).proportion_ci(method="wilson")), abs=1e-6)
    assert wilson(0, 5)[0] == pytest.approx(0, abs=1e-12) and wilson(5, 5)[1] == pytest.approx(1, abs=1e-12)


def test_confusions_are_counted_as_scikit_learn_does():
    rng = np.random.default_rng(2)
    gold, answers = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    np.testing.assert_array_equal(confusion(gold, answers, 4), confusion_matrix(gold, answers, labels=range(4)))


@pytest.fixture(params=[0, 1, 2])
def answers(request):
    rng = np.random.default_rng(request.param)
    gold = rng.integers(0, 3, 200)
    probs = rng.dirichlet([1, 1, 1], 200)
    return np.round(0.6 * probs + 0.4 * np.eye(3)[gold], 1 + request.param), gold  # rounded: many are equal


def test_the_area_is_that_of_scikit_learn(answers):
    probs, gold = answers
    expected = np.mean([average_precision_score(gold == label, probs[:, label]) for label in range(3)])
    assert average_precision(probs, gold) == pytest.approx(expected)


@pytest.mark.parametrize("recall", [0.1, 0.5, 1.0])
def test_the_precision_at_a_recall_is_that_of_scikit_learn(answers, recall):
    probs, gold = answers
    values = []
    for label in range(3):
        precisions, recalls, _ = precision_recall_curve(gold == label, probs[:, label])
        values.append(precisions[recalls >= recall].max())
    assert precision_at_recall(probs, gold, recall) == pytest.approx(np.mean(values))


def test_a_label_that_no_text_has_is_left_out_and_a_perfect_answer_is_1():
    gold = np.array([0, 1, 0, 1])
    probs = np.eye(3)[gold]
    assert average_precision(probs, gold) == precision_at_recall(probs, gold, 0.5) == 1
