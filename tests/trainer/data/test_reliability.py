"""How often people are right is found from their labels and the teacher's, and both are combined by Bayes' rule."""

import numpy as np
import pytest

from potstill.trainer.data.reliability import after_people, how_often_right, recalibrated, weighed


def labels_of(rng, n, n_labels, right, sharpness=1.0, bias=None):
    """(soft labels, what people say). Args: sharpness, above 1 for a teacher that is surer than it is right; bias, its logits'."""
    probs = rng.dirichlet(np.full(n_labels, 0.4), n)
    truth = np.array([rng.choice(n_labels, p=row) for row in probs])
    wrong = (truth + rng.integers(1, n_labels, n)) % n_labels
    found = np.maximum(probs, 1e-6) ** sharpness * np.exp(np.zeros(n_labels) if bias is None else np.array(bias))
    return found / found.sum(axis=1, keepdims=True), np.where(rng.random(n) < right, truth, wrong)


@pytest.mark.parametrize("n_labels", [2, 3, 6])
@pytest.mark.parametrize("right", [0.7, 0.85, 0.95])
@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_the_share_is_found_whether_or_not_the_teacher_is_overconfident(n_labels, right, sharpness):
    found = [how_often_right(*labels_of(np.random.default_rng(seed), 2000, n_labels, right, sharpness)) for seed in range(4)]
    assert np.mean([one.share for one in found]) == pytest.approx(right, abs=0.05)
    assert all(one.interval[0] - 0.04 <= right <= one.interval[1] + 0.04 for one in found)
    assert np.mean([one.temperature for one in found]) == pytest.approx(sharpness, rel=0.25)


def test_a_label_that_the_teacher_gives_too_often_is_no_fault_of_people():
    found = how_often_right(*labels_of(np.random.default_rng(0), 3000, 3, 0.9, bias=[2.0, 0.0, 0.0]))
    assert found.share == pytest.approx(0.9, abs=0.05)
    assert found.bias[0] + 1.5 < min(found.bias[1:])


def test_taking_an_overconfident_teacher_at_its_word_would_blame_people():
    """The likelihood alone, without recalibration, is what this estimate replaces: it puts people who are always right lower."""
    teacher, given = labels_of(np.random.default_rng(0), 2000, 3, 1.0, sharpness=3.0)
    named, shares = teacher[np.arange(len(given)), given][:, None], np.linspace(0.34, 0.99, 66)
    plain = shares[np.log(named * shares + (1 - named) * (1 - shares) / 2).sum(axis=0).argmax()]
    assert plain < 0.9 < how_often_right(teacher, given).share


def test_few_labels_leave_the_share_near_what_was_known_before():
    teacher, given = labels_of(np.random.default_rng(1), 5, 3, 0.7)
    found, none = how_often_right(teacher, given), how_often_right(teacher[:0], given[:0])
    assert 0.5 < found.share < 0.95 and found.interval[1] - found.interval[0] > 0.25
    assert none.share == pytest.approx(0.8, abs=0.05) and none.n_compared == 0 and "assumed" in none.as_text()


def test_a_stated_share_is_taken_and_the_recalibration_is_found_beside_it():
    teacher, given = labels_of(np.random.default_rng(2), 4000, 3, 0.8, sharpness=2.0)
    found = how_often_right(teacher, given, 0.8)
    assert found.share == 0.8 and found.interval is None and found.as_text() == "on 80% (stated)"
    assert found.temperature == pytest.approx(2.0, rel=0.25)


def test_the_order_of_texts_and_labels_does_not_matter():
    teacher, given = labels_of(np.random.default_rng(3), 200, 4, 0.75)
    order, names = np.random.default_rng(4).permutation(200), np.array([2, 0, 3, 1])
    moved = how_often_right(teacher[order][:, names], np.argsort(names)[given[order]])
    assert moved.share == pytest.approx(how_often_right(teacher, given).share, abs=1e-3)


def test_both_together_are_bayes_rule():
    teacher, given = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]), np.array([0, 2])
    right = how_often_right(teacher, given, 0.8)
    prior = recalibrated(teacher, right)
    by_hand = teacher ** (1 / right.temperature) * np.exp(right.bias)
    np.testing.assert_allclose(prior, by_hand / by_hand.sum(axis=1, keepdims=True), atol=1e-12)
    for row, before, place in zip(weighed(teacher, given, right), prior, given, strict=True):
        evidence = np.where(np.arange(3) == place, 0.8, 0.1)
        np.testing.assert_allclose(row, before * evidence / (before @ evidence), atol=1e-12)


def test_people_who_are_always_right_replace_the_teacher_also_where_it_rules_their_label_out():
    teacher, given = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]]), np.array([2, 0])
    made = weighed(teacher, given, how_often_right(teacher, given, 1.0))
    np.testing.assert_allclose(made, np.eye(3)[given], atol=1e-12)


def test_people_who_guess_change_nothing():
    teacher, given = labels_of(np.random.default_rng(5), 50, 4, 0.5)
    right = how_often_right(teacher, given, 0.25 + 1e-9)
    np.testing.assert_allclose(after_people(teacher, given, right), teacher, atol=1e-6)
