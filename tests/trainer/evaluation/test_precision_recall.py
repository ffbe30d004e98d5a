import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from potstill.trainer.evaluation.precision_recall import average_precision, precision_at_recall


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
