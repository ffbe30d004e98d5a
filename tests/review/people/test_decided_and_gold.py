"""What counts of a journal, and what becomes gold."""

import pytest

from potstill.contract.questions.question import Question
from potstill.contract.task import Label
from potstill.contract.texts import Text
from potstill.labeler.store.people import HumanDecision
from potstill.review.people.answers import ONLY
from potstill.review.people.comparison import counts_of, disagreements
from potstill.review.people.decided import Decided
from potstill.review.people.gold import GoldChoice, gathered_gold, gold_file, settle

TEXTS = {name: Text(f"text {name}", name) for name in "abcd"}


def rows(*decisions):
    """Decisions as a journal numbers them: (person, text, labels or None for a skip, changes)."""
    made = []
    for number, (person, text_id, labels, *changes) in enumerate(decisions, 1):
        values = {"entry": f"e{number}", "mode": "random", "skipped": labels is None} | (changes[0] if changes else {})
        made.append(HumanDecision(person=person, text_id=text_id, labels=labels, number=number, **values))
    return made


def gold_of(*decisions, shown=(), **choice):
    found = gathered_gold(TEXTS, [ONLY], Decided(rows(*decisions)), GoldChoice(**choice), shown)
    return {text.id: text.gold for text in found.texts}, found


def test_the_last_decision_of_a_person_counts_and_an_undone_one_does_not():
    assert gold_of(("ann", "a", "up"), ("ann", "a", "down"))[0] == {"a": "down"}
    undone = ("ann", "a", None, {"undoes": "e2", "skipped": False})
    assert gold_of(("ann", "a", "up"), ("ann", "a", "down"), undone)[0] == {"a": "up"}
    decided = Decided(rows(("ann", "a", "up"), ("ann", "a", None, {"undoes": "e1", "skipped": False})))
    assert decided.texts_of("ann") == set() and decided.last_entry("ann") is None and decided.texts() == []


def test_most_people_decide_and_a_tie_is_left_out_and_counted():
    assert gold_of(("ann", "a", "up"), ("bob", "a", "down"), ("eve", "a", "up"))[0] == {"a": "up"}
    gold, found = gold_of(("ann", "a", "up"), ("bob", "a", "down"), ("ann", "b", "up"))
    assert gold == {"b": "up"} and found.n_open == 1
    assert "people disagree" in found.as_text()


def test_a_resolution_decides_unless_it_is_undone_or_single_people_are_asked_for():
    tie = (("ann", "a", "up"), ("bob", "a", "down"))
    resolved = (*tie, ("eve", "a", "down", {"mode": "resolution"}))
    assert gold_of(*resolved)[0] == {"a": "down"}
    assert gold_of(*resolved, people=("ann",))[0] == {"a": "up"}
    assert gold_of(*resolved, ("eve", "a", None, {"undoes": "e3", "skipped": False}))[0] == {}
    decided = Decided(rows(*resolved))
    assert decided.people() == ["ann", "bob"] and decided.texts_of("eve") == set()


def test_only_texts_found_at_random_are_gold_unless_all_are_wanted():
    drawn = (
        ("ann", "a", "up"),
        ("ann", "b", "up", {"mode": "search"}),
        ("ann", "c", "up", {"mode": "ranked"}),
        ("ann", "d", "up", {"mode": "overlap"}),
    )
    gold, found = gold_of(*drawn)
    assert set(gold) == {"a", "d"} and found.n_found == 2
    assert set(gold_of(*drawn, mode="all")[0]) == set("abcd")


def test_a_text_that_was_found_at_random_stays_so_when_it_is_corrected_through_the_search():
    assert gold_of(("ann", "a", "up"), ("ann", "a", "down", {"mode": "search"}))[0] == {"a": "down"}


def test_skipped_texts_are_no_gold_and_are_counted():
    gold, found = gold_of(("ann", "a", None), ("ann", "b", "up"), ("bob", "b", None))
    assert gold == {"b": "up"} and found.n_skipped == 1


def test_a_text_that_the_task_shows_as_a_worked_example_is_no_gold():
    gold, found = gold_of(("ann", "a", "up"), ("ann", "b", "up"), shown={"text a"})
    assert gold == {"b": "up"} and found.n_shown == 1


def test_tags_are_settled_as_a_whole_and_none_is_an_answer():
    decided = Decided(
        rows(*[(person, "a", labels, {"question": "topics"}) for person, labels in (("ann", []), ("bob", ["x"]), ("eve", []))])
    )
    assert settle(decided, "a", "topics").answer == []
    found = gathered_gold(TEXTS, ["topics", "move"], decided)
    assert gold_file(found.texts, ["topics", "move"]) == b'{"text":"text a","id":"a","gold":{"topics":[]}}\n'


def test_counts_and_disagreements_follow_the_people():
    decided = Decided(rows(("ann", "a", "up"), ("bob", "a", "down", {"revealed": True}), ("ann", "b", "up"), ("ann", "c", None)))
    ann = counts_of(decided, "ann")
    assert (ann.n_labelled, ann.n_skipped, ann.n_together) == (2, 1, 1) and counts_of(decided, "bob").n_revealed == 1
    question = Question(name=ONLY, question="?", labels=[Label(name="up"), Label(name="down")])
    assert [one.text_id for one in disagreements(decided, [question])] == ["a"]


@pytest.mark.parametrize("n", [1, 3])
def test_rows_may_come_bit_by_bit(n):
    made = rows(
        ("ann", "a", "up"), ("bob", "a", "down"), ("ann", "a", None, {"undoes": "e1", "skipped": False}), ("ann", "b", "up")
    )
    decided = Decided()
    for start in range(0, len(made), n):
        decided.take(made[start : start + n])
    assert decided.last_number == 4 and decided.texts_of("ann") == {"b"} and decided.latest("a", ONLY).keys() == {"bob"}
