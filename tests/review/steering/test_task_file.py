"""An addition to a task file keeps everything that stands in it, comments too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_task import SMALL_TASK

from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.questionnaire import load_any_task
from potstill.review.people.answers import ONLY
from potstill.review.steering.task_file import NewExample, NewTerm, with_addition, write_change

SEVERAL = """format = 2  # two questions
name = "toy"
[[questions]]
name = "move"
question = "Where does it go?"
labels = [{name = "up"}, {name = "down"}]
[[questions]]
name = "topics"
kind = "tags"
question = "Does the text mention {tag}?"
labels = [{name = "news"}, {name = "chart"}]
"""


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task.toml"
    path.write_text("# ours\n" + SMALL_TASK + "\n# the end\n")
    return path


def test_a_term_is_added_and_nothing_else_changes(task):
    before, text = load_any_task(task), task.read_text()
    change = with_addition(task, NewTerm(" puts ", "bets on a fall"))
    assert task.read_text() == text and change.task.knowledge[0].term == "puts"
    assert change.added == '[[knowledge]]\nterm = "puts"\nmeaning = "bets on a fall"'
    write_change(task, change)
    after = load_any_task(task)
    assert after == change.task and after.examples == before.examples
    assert all(line in task.read_text().splitlines() for line in text.splitlines())
    write_change(task, with_addition(task, NewTerm("calls", "bets on a rise")))
    assert [entry.term for entry in load_any_task(task).knowledge] == ["puts", "calls"] and "# ours" in task.read_text()


def test_a_text_becomes_a_worked_example_with_its_rationale_if_it_has_one(task):
    write_change(task, with_addition(task, NewExample("a\nnew  text", {ONLY: "down"}, {ONLY: " because\nof it "})))
    write_change(task, with_addition(task, NewExample("another", {ONLY: "up"}, {ONLY: " "})))
    found = load_any_task(task).examples[-2:]
    assert [(one.text, one.label, one.rationale) for one in found] == [
        ("a new text", "down", "because of it"),
        ("another", "up", ""),
    ]


def test_several_questions_are_answered_in_one_example(tmp_path):
    path = tmp_path / "task.toml"
    path.write_text(SEVERAL)
    answers = {"move": "up", "topics": ["chart", "news"]}
    write_change(path, with_addition(path, NewExample("text", answers, {"move": "why", "topics": ""})))
    (found,) = load_any_task(path).examples
    assert found.answers == answers and found.rationales == {"move": "why"} and "# two questions" in path.read_text()


@given(st.text(), st.text())
def test_whatever_a_person_types_is_either_read_back_or_refused(tmp_path_factory, term, meaning):
    path = tmp_path_factory.mktemp("typed") / "task.toml"
    path.write_text(SMALL_TASK)
    try:
        change = with_addition(path, NewTerm(term, meaning))
    except FormatError as error:
        assert not term.strip() or not meaning.strip() or "surrogates" in str(error) or "TOML" in str(error)
        return
    assert (change.task.knowledge[0].term, change.task.knowledge[0].meaning) == (term.strip(), meaning.strip())


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        (NewTerm(" ", "x"), "task.toml: knowledge[0]: term and meaning must not be empty"),
        (NewExample("text", {ONLY: "sideways"}), "task.toml: examples[2].label: 'sideways' is not a label; allowed: up, down"),
        (NewExample("text", {ONLY: "up"}, target="acme"), "task.toml: examples[2].target: has a target, but input.target is false"),
    ],
)
def test_what_would_make_the_task_invalid_is_refused_and_the_file_stays(task, addition, said):
    before = task.read_bytes()
    with pytest.raises(FormatError) as refused:
        with_addition(task, addition)
    assert said in str(refused.value) and str(task) in str(refused.value)
    assert task.read_bytes() == before


def test_a_file_that_changed_in_the_meantime_is_not_overwritten(task):
    change = with_addition(task, NewTerm("puts", "x"))
    task.write_text(task.read_text() + "# mine\n")
    with pytest.raises(UserError, match=r"was changed in the meantime, so nothing was written"):
        write_change(task, change)
    assert task.read_text().endswith("# mine\n")


def test_a_file_that_is_no_toml_is_named(task):
    task.write_text("format = ")
    with pytest.raises(FormatError, match="is not TOML"):
        with_addition(task, NewTerm("puts", "x"))
