"""When a task is narrowed to candidates, and how its labels are shown there."""

import pytest
from support.teachers.many_labels import NAMES, TASK, a_task, made_up

from potstill.contract.errors import UserError
from potstill.contract.task import Label
from potstill.labeler.candidates import as_shown, is_narrowed, many_labels, readable
from potstill.labeler.config import LabelConfig


@pytest.mark.parametrize(
    ("n_labels", "n_candidates", "narrow"), [(20, 10, False), (21, 10, True), (30, 0, False), (30, 29, True), (30, 30, False)]
)
def test_more_than_twenty_labels_are_narrowed_unless_all_are_wanted(n_labels, n_candidates, narrow):
    task, config = a_task(tuple(NAMES[:n_labels])), LabelConfig(candidates=n_candidates)
    assert is_narrowed(task, config) == narrow
    assert bool(many_labels(task, config)) == narrow


@pytest.mark.parametrize("n", [1, -1])
def test_one_candidate_is_no_question(n):
    with pytest.raises(UserError, match=f"candidates is {n}; it must be at least 2 labels, or 0 to ask about all of them"):
        LabelConfig(candidates=n)


@pytest.mark.parametrize(
    ("name", "words"),
    [("card_not_working", "card not working"), ("topUp-failed", "top Up failed"), ("a.b/c", "a b c"), ("up", "up"), ("ATM", "ATM")],
)
def test_names_are_made_readable(name, words):
    assert readable(name) == words


def test_a_label_is_shown_by_its_own_words_or_else_by_its_name():
    task = a_task(("card_lost", "___"))
    task.labels[0].words.append("gone")
    assert [label.words for label in as_shown(task).labels] == [["gone"], ["___"]]
    assert as_shown(TASK).labels[1] == Label(name="card_blocked", meaning="the card is blocked", words=["card blocked"])
    assert TASK.labels[1].words == []


def test_what_is_outside_is_what_the_candidates_leave_over():
    own = made_up()["0"]
    assert 0 < own.outside < 0.05
    assert own.labels[:3] == (0, 1, 2)
