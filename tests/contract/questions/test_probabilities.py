import numpy as np
import pytest

from potstill.contract.questions.head import Head
from potstill.contract.questions.probabilities import NEVER, decided, head_probs, joint_probs, tag_thresholds
from potstill.serve.runtime.heads import HeadReader

MOVE = Head(name="move", kind="choice", labels=["up", "flat", "down"], temperature=1.7, bias=[0.3, 0.0, -0.2])
TOPICS = Head(
    name="topics", kind="tags", labels=["news", "chart"], temperature=0.6, bias=[0.1, -1.0], thresholds={"news": 0.4, "chart": None}
)
LOGITS = np.random.default_rng(0).normal(scale=4, size=(50, 5))


def test_arrays_and_single_texts_get_the_same_probabilities():
    reader = HeadReader([MOVE, TOPICS])
    wanted = [reader.probs(row) for row in LOGITS.tolist()]
    np.testing.assert_allclose(joint_probs([MOVE, TOPICS], LOGITS), wanted, rtol=1e-12)


@pytest.mark.parametrize("head", [MOVE, TOPICS])
def test_large_logits_stay_finite(head):
    logits = np.array([[1e5, -1e5, 0.0]])[:, : len(head.labels)]
    found = head_probs(head, logits)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_one_answer_of_a_choice_and_any_number_of_tags():
    probs = joint_probs([MOVE, TOPICS], LOGITS)
    np.testing.assert_array_equal(decided(MOVE, probs[:, :3])[:, 0], probs[:, :3].argmax(axis=1))
    held = decided(TOPICS, probs[:, 3:])
    np.testing.assert_array_equal(held[:, 0], probs[:, 3] >= 0.4)
    assert not held[:, 1].any()


def test_a_tag_without_a_threshold_holds_from_one_half():
    assert tag_thresholds(TOPICS) == [0.4, NEVER] and tag_thresholds(MOVE) is None
    assert tag_thresholds(Head(name="t", kind="tags", labels=["a"])) == [0.5]
