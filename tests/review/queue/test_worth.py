"""A ranked queue begins with what the teacher doubts, what its neighbours contradict, and not with the same thing again and again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.questions.question import Question
from potstill.contract.task import Label
from potstill.labeler.aggregation.other_texts.smoothing import nearest
from potstill.review.corpus.texts import TeacherAnswer
from potstill.review.queue.spread import BLOCK, spread_ranked
from potstill.review.queue.worth import ranks, signals, worth

QUESTION = Question(name="", question="?", labels=[Label(name="up"), Label(name="down")])


def answer(up, agreement=1.0):
    probs = {"up": up, "down": 1 - up}
    return TeacherAnswer(probs, agreement, 4, -sum(p * math.log(p) for p in probs.values() if p > 0))


def two_groups(n=20):
    """Vectors of two far groups; the first half is the one group."""
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(2, 8, dtype=np.float32), n // 2, axis=0)
    vectors = centers + rng.normal(0, 0.02, (n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_what_the_teacher_doubts_is_worth_more_than_what_it_is_sure_of():
    answers = {"sure": answer(0.99), "split": answer(0.5, 0.5), "leaning": answer(0.7, 0.75)}
    found = dict(zip(answers, worth(list(answers), [QUESTION], {"": answers}, None), strict=True))
    assert found["split"] > found["leaning"] > found["sure"]


def test_a_text_without_an_answer_is_worth_most():
    answers = {"a": answer(0.9), "b": answer(0.6, 0.6)}
    assert worth(["a", "b", "none"], [QUESTION], {"": answers}, None).argmax() == 2


def test_a_sure_answer_that_all_neighbours_contradict_is_suspected():
    ids = [f"t{i}" for i in range(20)]
    answers = {text_id: answer(0.95 if i < 10 else 0.05) for i, text_id in enumerate(ids)}
    answers["t3"] = answer(0.05)
    found = signals(ids, QUESTION, answers, nearest(two_groups(), 5))
    assert found["label_error"].argmax() == 3 == found["contradiction"].argmax()
    assert (np.delete(found["label_error"], 3) < found["label_error"][3]).all()


def test_tags_and_several_questions_count_alike():
    tags = Question(name="topics", kind="tags", question="{tag}?", labels=[Label(name="x"), Label(name="y")])
    ids = ["a", "b"]
    answers = {"a": TeacherAnswer({"x": 0.01, "y": 0.99}, 1.0, 4, 0.1), "b": TeacherAnswer({"x": 0.5, "y": 0.9}, 0.6, 4, 1.0)}
    assert worth(ids, [tags, QUESTION], {"topics": answers, "": {"a": answer(0.9), "b": answer(0.9)}}, None).argmax() == 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_ranks_depend_on_the_order_alone(values):
    found = ranks(np.array(values))
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, ranks(np.array(values) * 2.0))
    for i, value in enumerate(values):
        for j, other in enumerate(values):
            assert (found[i] < found[j]) == (value < other)


def test_every_text_has_its_place_once_and_without_vectors_worth_alone_decides():
    scores = np.random.default_rng(0).random(300)
    assert spread_ranked(scores, None).tolist() == np.argsort(-scores, kind="stable").tolist()
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = spread_ranked(scores, vectors)
    assert sorted(order.tolist()) == list(range(300)) and order[0] == scores.argmax()
    assert scores[order[:BLOCK]].min() >= np.sort(scores)[::-1][4 * BLOCK - 1]


def test_the_beginning_holds_both_groups_where_worth_alone_would_hold_one():
    vectors = two_groups(200)
    scores = np.concatenate([np.linspace(1, 0.9, 100), np.linspace(0.95, 0, 100)])
    alone, spread = spread_ranked(scores, None)[:10], spread_ranked(scores, vectors)[:10]
    assert (alone < 100).all() and (spread >= 100).sum() > 0


@pytest.mark.parametrize("n", [1, 2, BLOCK])
def test_few_texts_are_ranked_too(n):
    vectors = np.eye(n, max(n, 2), dtype=np.float32)
    assert sorted(spread_ranked(np.arange(n, dtype=float), vectors).tolist()) == list(range(n))
