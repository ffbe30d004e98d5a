import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from potstill.contract.scores import metrics
from potstill.contract.texts import Text
from potstill.trainer.evaluation.comparison import System, compare
from potstill.trainer.evaluation.comparison_text import as_json, as_text, notes, predictions
from potstill.trainer.evaluation.curves import confusion
from potstill.trainer.evaluation.gold import Gold
from potstill.trainer.evaluation.label_map import parse_label_map
from potstill.trainer.evaluation.mcnemar import mcnemar

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
