import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import confusion_matrix

from potstill.contract.scores import metrics
from potstill.contract.texts import Text
from potstill.trainer.evaluation.comparison import McNemar, System, compare, mcnemar
from potstill.trainer.evaluation.comparison_text import as_json, as_text, notes, predictions
from potstill.trainer.evaluation.curves import confusion
from potstill.trainer.evaluation.gold import Gold
from potstill.trainer.evaluation.label_map import parse_label_map

pytestmark = pytest.mark.slow

LABELS = ["up", "flat", "down"]
CLASSES = np.random.default_rng(3).integers(0, 3, 50)
TEXTS = [Text(f"text {i}", f"t{i}", gold=LABELS[c]) for i, c in enumerate(CLASSES)]
GOLD = Gold(Path("gold.jsonl"), TEXTS, parse_label_map([], LABELS), tuple(LABELS), ("left out 2 texts",))


def answers(name, rightness, note=""):
    """A system that is right now and then."""
    rng = np.random.default_rng(len(name))
    probs = rng.dirichlet(np.ones(3), 50) + rightness * np.eye(3)[CLASSES]
    return System(name, probs / probs.sum(axis=1, keepdims=True), note)


@pytest.fixture(scope="module")
def compared():
    return compare([answers("student", 0.6, "3 met"), answers("teacher", 0.3), answers("luck", 0.0)], GOLD)


def test_every_system_is_scored_and_every_other_one_is_tested_against_the_student(compared):
    assert list(compared.scores) == ["student", "teacher", "luck"]
    assert list(compared.against) == ["teacher", "luck"]
    student, teacher = (system.probs for system in compared.systems[:2])
    assert compared.scores["teacher"] == metrics.scores(teacher, CLASSES)
    found = compared.against["teacher"]
    assert found.macro_f1 == metrics.difference(metrics.macro_f1, student, teacher, CLASSES)
    assert found.accuracy == metrics.difference(metrics.accuracy, student, teacher, CLASSES)
    assert found.mcnemar == mcnemar(student.argmax(1) == CLASSES, teacher.argmax(1) == CLASSES)
    assert found.mcnemar.n_first - found.mcnemar.n_second == pytest.approx(50 * found.accuracy.value)


def test_a_system_next_to_itself_differs_by_nothing():
    same = compare([answers("student", 0.4), System("twin", answers("student", 0.4).probs)], GOLD).against["twin"]
    assert (same.accuracy.value, same.accuracy.low, same.accuracy.high, same.mcnemar.p) == (0, 0, 0, 1)


def test_the_confusion_matrix_is_that_of_scikit_learn(compared):
    predicted = compared.systems[0].probs.argmax(axis=1)
    np.testing.assert_array_equal(compared.confusion, confusion_matrix(CLASSES, predicted, labels=[0, 1, 2]))
    assert compared.confusion.sum() == 50


def test_a_label_that_never_occurs_has_its_row_and_column():
    assert confusion(np.array([1]), np.array([0]), 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_the_text_has_three_tables_whose_columns_stand_under_each_other(compared):
    scores, against, matrix = as_text(compared).split("\n\n")[1:]
    assert scores.splitlines()[0].split() == ["system", "n", "accuracy", "macro-F1", "log-loss", "ECE"]
    student = compared.scores["student"]
    assert (
        scores.splitlines()[1]
        == f"student  50  {'  '.join(student[name].as_text() for name in ('accuracy', 'macro_f1', 'log_loss', 'ece'))}"
    )
    assert [line.split()[0] for line in against.splitlines()] == ["student", "teacher", "luck"]
    assert "+0." in against.splitlines()[2]
    assert [line.split() for line in matrix.splitlines()[1:]] == [
        [name, *map(str, row)] for name, row in zip(LABELS, compared.confusion.tolist(), strict=True)
    ]
    for table in (against, matrix):
        assert len({line.find("  ") >= 0 for line in table.splitlines()}) == 1


def test_alone_a_student_gets_scores_and_a_confusion_matrix():
    said = as_text(compare([answers("student", 0.5)], GOLD))
    assert "student minus" not in said and "gold / student" in said


def test_the_notes_name_whom_they_concern(compared):
    assert notes(compared) == ["left out 2 texts", "student: 3 met"]


def test_json_holds_all_of_it(compared):
    content = json.loads(as_json(compared))
    assert set(content) == {"n", "labels", "systems", "student_minus", "confusion", "notes"}
    assert content["systems"]["student"]["note"] == "3 met"
    assert set(content["systems"]["luck"]["ece"]) == {"value", "low", "high", "n"}
    assert content["student_minus"]["luck"]["mcnemar"]["p"] == compared.against["luck"].mcnemar.p
    assert content["confusion"] == compared.confusion.tolist()
    assert content["notes"] == ["left out 2 texts"]


def test_predictions_are_a_line_a_text_from_which_the_scores_follow(compared):
    lines = [json.loads(line) for line in predictions(compared).splitlines()]
    assert [line["id"] for line in lines] == [text.id for text in TEXTS]
    for name in compared.scores:
        probs = np.array([[line["probs"][name][label] for label in LABELS] for line in lines])
        gold = np.array([LABELS.index(line["gold"]) for line in lines])
        assert metrics.scores(probs, gold) == compared.scores[name]


def outcome(both, first, second, neither):
    """Who was right, from the four counts of the table."""
    return np.array([True] * (both + first) + [False] * (second + neither), dtype=bool), np.array(
        [True] * both + [False] * first + [True] * second + [False] * neither, dtype=bool
    )


def test_two_texts_against_eight_by_hand():
    # 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 2 * 56 / 1024
    assert mcnemar(*outcome(30, 2, 8, 5)) == McNemar(2, 8, pytest.approx(112 / 1024))


def test_one_text_more_than_even_by_hand():
    # 3 against 2: every outcome of 5 coins is at least as uneven
    assert mcnemar(*outcome(1, 3, 2, 1)).p == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(121, 59, 0.000004), (70, 59, 0.378688), (80, 59, 0.089452), (30, 60, 0.00206), (10, 30, 0.002221), (10, 10, 1.0)],
)
def test_the_p_values_are_those_that_statsmodels_is_tested_with(first, second, p):
    # statsmodels, test_mcnemar_exact: tables [[101, first], [second, 33]], p from the Vassar College calculator
    assert mcnemar(*outcome(101, first, second, 33)).p == pytest.approx(p, abs=5e-7)


def test_a_small_p_is_that_of_mlxtend():
    # mlxtend, test_exact: table [[101, 121], [59, 33]]
    assert mcnemar(*outcome(101, 121, 59, 33)).p == pytest.approx(4.4344492637555101e-06, rel=1e-9)


def test_classifiers_that_never_differ_do_not_differ():
    assert mcnemar(*outcome(4, 0, 0, 3)) == McNemar(0, 0, 1.0)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9), st.integers(0, 9))
def test_only_the_texts_that_one_of_the_two_got_right_count_and_the_order_does_not(first, second, both, neither):
    found = mcnemar(*outcome(both, first, second, neither))
    assert found.p == pytest.approx(mcnemar(*outcome(0, second, first, 0)).p)
    assert 0 <= found.p <= 1
    assert found.p == pytest.approx(min(1, 2 * binom.cdf(min(first, second), first + second, 0.5)))
