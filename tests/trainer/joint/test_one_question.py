"""One of several questions, or one tag, becomes an ordinary student of one choice from the labels that all questions share."""

import json

import pytest
from support.tiny_backbone import VOCABULARY, write_backbone
from support.toy_questions import WORDS, a_questionnaire, answer_rows, answered_gold
from support.toy_task import a_task, quick

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.soft_answers import write_soft_answers
from potstill.contract.texts import Text, write_texts
from potstill.trainer.data.answered import gold_of_one, one_choice
from potstill.trainer.run import train
from potstill.trainer.sweep import sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("backbone"), [*VOCABULARY, *WORDS])


@pytest.fixture
def labelled(tmp_path):
    """(task, its soft labels; `asks` is answered by every other row)."""
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(160, task, left_out=["asks"]))
    return task, path


@pytest.mark.parametrize(
    ("key", "labels"),
    [
        ("move", ["up", "flat", "down"]),
        ("asks", ["yes", "no"]),
        ("topics/news", ["yes", "no"]),
        ("sure", ["low", "middle", "high"]),
    ],
)
def test_a_question_is_a_task_of_its_own_with_the_rows_that_answer_it(labelled, key, labels):
    task, path = labelled
    alone, rows = one_choice(path, task, key)
    assert alone.label_names == labels and {row.task_digest for row in rows} == {alone.digest}
    assert len(rows) == (80 if key == "asks" else 160)
    assert all(set(row.probs) == set(labels) for row in rows)


def test_its_student_is_one_of_one_choice(labelled, backbone, tmp_path):
    task, path = labelled
    config = quick(backbone, family="static", epochs=4)
    report = train(task, path, tmp_path / "student", config, question="topics/news")
    student = read_student(tmp_path / "student")
    assert (student.heads, student.labels, student.format) == (None, ["yes", "no"], 1)
    assert report.student == student and student.task_digest == task.find_ask("topics/news").task.digest


def test_a_sweep_is_over_one_question_and_scores_its_gold(labelled, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("potstill.trainer.sweep.OBJECTIVES", ("soft_ce",))
    task, path = labelled
    (tmp_path / "gold.jsonl").write_bytes(write_texts([*answered_gold(20), Text("no answer", "x", gold='{"move": "up"}')]))
    gold = gold_of_one(tmp_path / "gold.jsonl", task, "sure")
    assert len(gold) == 20 and {text.gold for text in gold} == {"low", "middle", "high"}
    tags = gold_of_one(tmp_path / "gold.jsonl", task, "topics/news")
    assert [text.gold for text in tags] == ["yes" if "news" in json.loads(t.gold)["topics"] else "no" for t in answered_gold(20)]
    found = sweep(task, path, tmp_path / "student", quick(backbone, family="static", epochs=1), gold, question="sure")
    assert found.measurements and all(measurement.gold for measurement in found.measurements)


def test_what_makes_no_sense_is_said(labelled, tmp_path):
    task, path = labelled
    keys = "move, asks, topics/news, topics/chart, topics/people, sure"
    for wanted, problem in [
        (None, f"task 'toy' asks several questions; name one with --question: {keys}"),
        ("mood", f"the task has no question 'mood' with one answer; it has {keys}"),
        ("topics", f"the task has no question 'topics' with one answer; it has {keys}"),
    ]:
        with pytest.raises(UserError) as caught:
            one_choice(path, task, wanted)
        assert str(caught.value) == problem
    with pytest.raises(UserError, match="--question is 'move', but task 'moves' asks one choice; leave it out"):
        one_choice(path, a_task(), "move")
    write_soft_answers(tmp_path / "none.jsonl", answer_rows(4, task, left_out=["asks"])[1:2])
    with pytest.raises(UserError, match="no text answers asks; label with the question, or name another one"):
        one_choice(tmp_path / "none.jsonl", task, "asks")
