"""Rules, functions, files of answers and prototypes vote, abstain, or were not asked; what cannot be read is refused."""

import textwrap

import numpy as np
import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Rule
from potstill.contract.texts import Text
from potstill.labeler.weak_supervision.sources.answers import answer_votes
from potstill.labeler.weak_supervision.sources.prototypes import prototype_votes
from potstill.labeler.weak_supervision.sources.rules import function_votes, rule_votes
from potstill.labeler.weak_supervision.votes import source_votes, vote_table

LABELS = ["up", "down"]
TEXTS = [Text("it will rise", "a"), Text("it will fall", "b"), Text("who knows", "c")]


def written(tmp_path, code, name="functions.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return path


def test_a_rule_votes_where_it_matches_and_abstains_elsewhere():
    (votes,) = rule_votes([Rule(name="r", label="down", keywords=["fall", "drop"])], TEXTS, LABELS)
    np.testing.assert_array_equal(votes.probs, [[0, 0], [0, 1], [0, 0]])
    assert votes.asked.all() and list(votes.voted) == [False, True, False]


def test_functions_return_a_label_shares_or_none(tmp_path):
    path = written(
        tmp_path,
        """
        from re import search

        def _private(text):
            return "up"

        def by_word(text):
            return "up" if search("rise", text) else None

        def by_target(text, target):
            return {"up": 1, "down": 3} if target == "ACME" else None
        """,
    )
    texts = [*TEXTS, Text("and", "d", "ACME")]
    one, other = function_votes(path, texts, LABELS)
    assert (one.name, other.name) == ("by_word", "by_target")  # neither the private one nor what is imported
    np.testing.assert_array_equal(one.probs, [[1, 0], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(other.probs[3], [0.25, 0.75])
    assert one.asked.all()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("x = 1\n", "defines no function; write one that takes a text and returns a label or None"),
        ("def f(:\n", "line 1: is not Python: invalid syntax"),
        ("def f():\n    return 1\n", "function f: has 0 parameters; it takes a text, or a text and its target"),
        ("def f(t):\n    return 'flat'\n", "function f, on the text with id 'a': 'flat' is not a label; allowed: up, down"),
        (
            "def f(t):\n    return True\n",
            "function f, on the text with id 'a': returned True; allowed: a label's name, shares by label, or None to abstain",
        ),
        (
            "def f(t):\n    return {'up': -1}\n",
            "function f, on the text with id 'a': gives 'up' the share -1; a share is a number, 0 or more",
        ),
        (
            "def f(t):\n    return {'up': float('nan')}\n",
            "function f, on the text with id 'a': gives 'up' the share nan; a share is a number, 0 or more",
        ),
        (
            "def f(t):\n    return {'up': 0}\n",
            "function f, on the text with id 'a': gives no label a share above 0; to abstain, say null or None",
        ),
    ],
)
def test_a_function_that_cannot_vote_is_refused_with_the_text(tmp_path, code, problem):
    path = written(tmp_path, code)
    with pytest.raises(FormatError) as caught:
        function_votes(path, TEXTS, LABELS)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_function_that_fails_shows_its_traceback_and_the_text(tmp_path):
    path = written(tmp_path, "def f(t):\n    return t.no_such\n")
    with pytest.raises(AttributeError) as caught:
        function_votes(path, TEXTS, LABELS)
    assert caught.value.__notes__ == [f"in {path}, function f, on the text with id 'a'"]


def test_answers_vote_abstain_or_were_not_asked(tmp_path):
    path = written(
        tmp_path,
        """
        {"id": "a", "label": "up"}
        {"id": "b", "label": "down", "probs": {"up": 0.25, "down": 0.75}, "abstain": false, "unfamiliar": true}
        {"id": "z", "label": "down"}
        """,
        "answers.jsonl",
    )
    votes = answer_votes("other", path, TEXTS, LABELS)
    np.testing.assert_array_equal(votes.probs, [[1, 0], [0.25, 0.75], [0, 0]])
    assert list(votes.asked) == [True, True, False]


def test_an_answer_that_abstains_is_no_vote(tmp_path):
    lines = '{"id": "a", "label": "up", "abstain": true}\n{"id": "b", "label": null}\n{"id": "c", "label": "up"}\n'
    votes = answer_votes("other", written(tmp_path, lines, "answers.jsonl"), TEXTS, LABELS)
    assert list(votes.voted) == [False, False, True]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_soft_labels_are_answers_too(tmp_path, name):
    row = SoftLabel(
        id="b", text="it will fall", probs={"up": 0.3, "down": 0.7}, votes={"up": 1, "down": 2}, agreement=2 / 3, n_paths=3,
        entropy=0.6, label_mass=1.0, method="votes", teacher_digest="d", task_digest="d",
    )  # fmt: skip
    write_soft_labels(tmp_path / name, [row])
    votes = answer_votes("other", tmp_path / name, TEXTS, LABELS)
    np.testing.assert_allclose(votes.probs, [[0, 0], [0.3, 0.7], [0, 0]])
    assert list(votes.asked) == [False, True, False]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            '{"id": "a", "lable": "up"}',
            "line 1: unknown key 'lable' (did you mean 'label'?); allowed: id, label, probs, abstain, target, label_set, skipped, unfamiliar, unfamiliarity",
        ),
        ('{"id": "a", "label": "flat"}', "line 1: 'flat' is not a label; allowed: up, down"),
        ('{"id": "a", "label": "up"}\n{"id": "a", "label": "up"}', "line 2: id: repeats 'a'; ids must be unique"),
        ('{"id": "q", "label": "up"}', "has none of the 3 texts (its first id is 'q'); answer the same texts, with the same ids"),
        ("", "has no line; answer the same texts, with the same ids"),
        ('{"id": "a", "probs": {"up": 0.0}}', "line 1: gives no label a share above 0; to abstain, say null or None"),
    ],
)
def test_a_broken_file_of_answers_is_refused(tmp_path, lines, problem):
    path = written(tmp_path, lines, "answers.jsonl")
    with pytest.raises(FormatError) as caught:
        answer_votes("other", path, TEXTS, LABELS)
    assert str(caught.value) == f"{path}: {problem}"


def unit(*rows):
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_prototype_votes_for_the_half_of_the_texts_that_are_clearly_nearer_to_one_label():
    texts = [Text(name, name) for name in ("near up", "near down", "between", "between too")]
    examples = [Text("rise", gold="up"), Text("fall", gold="down")]
    vectors = unit([1, 0.1], [0.1, 1], [1, 1], [1, 0.99], [1, 0], [0, 1])
    votes = prototype_votes("prototypes", texts, examples, LABELS, vectors)
    np.testing.assert_array_equal(votes.probs, [[1, 0], [0, 1], [0, 0], [0, 0]])


def test_a_text_that_is_an_example_itself_was_not_asked_about():
    texts, examples = [Text("rise", "a"), Text("other", "b")], [Text("rise", gold="up"), Text("fall", gold="down")]
    votes = prototype_votes("prototypes", texts, examples, LABELS, unit([1, 0], [0, 1], [1, 0], [0, 1]))
    assert list(votes.asked) == [False, True]


def test_prototypes_need_an_example_of_every_label():
    with pytest.raises(UserError) as caught:
        prototype_votes("prototypes", TEXTS[:1], [Text("rise", gold="up")], LABELS, unit([1, 0], [1, 0]))
    assert str(caught.value) == "prototypes need examples of every label, and 'down' has none; add one to the task"


def test_a_source_that_never_votes_is_left_out_and_named():
    voting = source_votes("one", "rule", TEXTS, LABELS, {"a": {"up": 2.0}})
    table = vote_table(TEXTS, LABELS, [voting, source_votes("mute", "rule", TEXTS, LABELS, {"a": None})])
    assert [source.name for source in table.sources] == ["one"] and table.silent == ["mute"]
    np.testing.assert_array_equal(table.probs, [[[1, 0], [0, 0], [0, 0]]])


def test_sources_of_one_name_and_a_table_without_votes_are_refused():
    voting = source_votes("one", "rule", TEXTS, LABELS, {"a": {"up": 1.0}})
    with pytest.raises(UserError, match="^two sources are named 'one'; give one of them another name: NAME=FILE$"):
        vote_table(TEXTS, LABELS, [voting, voting])
    mute = source_votes("mute", "rule", TEXTS, LABELS, {})
    with pytest.raises(UserError, match="^none of 1 sources votes on any of the 3 texts; check their ids and rules$"):
        vote_table(TEXTS, LABELS, [mute])
