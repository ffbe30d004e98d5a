import numpy as np
import pytest
from support.sample_texts import DOWN, UP, a_soft_label, a_task, a_text, answered_texts

from potstill.contract.errors import UserError
from potstill.contract.task import Input
from potstill.trainer.report.slices import Slice, accuracy_difference, compile_patterns, slice_scores, slices


def members(answered, kind, patterns=None):
    """By name, the places of the texts in every slice of a kind."""
    found = slices(answered, compile_patterns(patterns or {}))
    return {part.name: np.flatnonzero(part.members).tolist() for part in found if part.kind == kind}


def test_agreement_parts_the_texts_and_a_text_that_no_path_could_label_is_in_no_slice():
    votes = [[8, 0, 0], [6, 2, 0], [5, 3, 0], [3, 3, 2], [0, 0, 0]]
    texts = [f"text {i}" for i in range(6)]
    teacher = [*(a_soft_label(text, vote) for text, vote in zip(texts, votes)), None]
    answered = answered_texts([(text, "up", UP) for text in texts], teacher)
    assert members(answered, "Agreement of the teacher") == {
        "all paths agree": [0],
        "at least 3 in 4 agree": [1],
        "at least half agree": [2],
        "fewer agree": [3],
    }


def test_a_contradiction_is_a_quarter_of_the_votes_for_each_of_two_labels():
    votes = [[4, 0, 4], [6, 0, 2], [7, 0, 1], [3, 3, 2], [0, 0, 0]]
    texts = [f"text {i}" for i in range(5)]
    answered = answered_texts([(text, "up", UP) for text in texts], [a_soft_label(text, vote) for text, vote in zip(texts, votes)])
    assert members(answered, "Contradiction of the teacher") == {
        "up against down": [0, 1, 3],
        "up against flat": [3],
        "flat against down": [3],
    }


def test_lengths_part_the_texts_in_thirds_and_texts_cut_for_the_teacher_are_a_slice():
    answered = answered_texts([("x" * n, "up", UP) for n in range(1, 10)], task=a_task(input=Input(max_chars=8)))
    found = members(answered, "Length")
    assert found.pop("cut for the teacher, at 8 characters") == [8]
    assert sorted(place for places in found.values() for place in places) == list(range(9))
    assert all(2 <= len(places) <= 4 for places in found.values())


def test_targets_come_by_frequency_and_only_the_most_frequent():
    texts = [a_text(f"text {i}", target=f"T{min(i % 12, 9)}") for i in range(60)]
    found = members(answered_texts([(text, "up", UP) for text in texts], task=a_task(input=Input(target=True))), "Target")
    assert next(iter(found)) == "T9" and len(found) == 8
    assert found["T0"] == [0, 12, 24, 36, 48]


def test_a_knowledge_term_counts_as_a_whole_word_whatever_its_case():
    answered = answered_texts([(text, "up", UP) for text in ("My PUTS print", "computsa", "none here")])
    assert members(answered, "Knowledge term") == {"puts": [0], "none of them": [1, 2]}


def test_a_pattern_makes_a_slice_of_the_texts_in_which_it_is_found():
    answered = answered_texts([(text, "up", UP) for text in ("sold a Call", "called me", "theta burns")])
    assert members(answered, "Pattern", {"options": r"\b(calls?|theta)\b"}) == {"options": [0, 2]}


def test_a_slice_of_all_texts_or_of_none_is_left_out():
    answered = answered_texts([("a b", "up", UP), ("b a", "up", UP)])
    assert members(answered, "Pattern", {"all": "a", "none": "z"}) == {}


def test_a_wrong_expression_is_refused_in_one_line():
    with pytest.raises(
        UserError, match=r"^slice 'options': '\(' is not a regular expression \(missing \), .*\); use Python's syntax$"
    ):
        compile_patterns({"options": "("})


def many(n_right, n_wrong):
    """Texts answered right, then texts answered wrong."""
    return answered_texts([(f"text {i}", "up", UP if i < n_right else DOWN) for i in range(n_right + n_wrong)])


def test_scores_of_a_slice_by_hand():
    answered = many(60, 40)
    inside = np.arange(100) >= 50  # 10 right of 50; outside 50 of 50
    found = slice_scores(answered, Slice("Pattern", "second half", inside))
    assert found.n == 50 and not found.small
    assert found.accuracy.value == pytest.approx(0.2)
    assert found.macro_f1.value == pytest.approx(2 * 10 / (10 + 50))  # of `up` alone: no other label is gold here
    assert found.difference.value == pytest.approx(-0.8)
    assert found.stands_out == "worse"


@pytest.mark.parametrize("inside", [np.arange(100) < 19, np.arange(100) < 81])
def test_a_slice_is_too_small_to_say_when_it_or_the_rest_holds_fewer_than_20_texts(inside):
    n = int(inside.sum())
    found = slice_scores(many(60, 40), Slice("Pattern", "x", inside))
    assert found.small is (min(n, 100 - n) < 20)
    assert found.stands_out == ""


def test_a_difference_is_zero_between_equals_and_turns_its_sign_with_the_groups():
    group, other = np.arange(200) < 120, np.arange(200) < 60
    same = accuracy_difference(group, group)
    assert same.value == 0 and same.low < 0 < same.high
    forth, back = accuracy_difference(group, other), accuracy_difference(other, group)
    assert forth.value == -back.value == pytest.approx(0.3)
    # the normal approximation, with 200 texts each
    half = 1.96 * np.sqrt(0.6 * 0.4 / 200 + 0.3 * 0.7 / 200)
    assert forth.low == pytest.approx(0.3 - half, abs=0.02) and forth.high == pytest.approx(0.3 + half, abs=0.02)
