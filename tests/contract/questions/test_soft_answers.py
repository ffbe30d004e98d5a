import msgspec
import pytest
from support.toy_questions import a_questionnaire, answer_rows

from potstill.contract.errors import FormatError
from potstill.contract.questions.soft_answers import read_soft_answers, rows_of, write_soft_answers
from potstill.contract.soft_label import read_soft_labels

TASK = a_questionnaire()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_rows_survive_the_way_through_a_file_also_where_questions_are_left_out(tmp_path, suffix):
    rows = answer_rows(12, TASK, left_out=("asks", "topics"), with_gold=True)
    write_soft_answers(tmp_path / f"soft{suffix}", rows)
    again = read_soft_answers(tmp_path / f"soft{suffix}", TASK.questions)
    assert [(row.id, row.answers, row.gold) for row in again] == [(row.id, row.answers, row.gold) for row in rows]


def test_the_rows_of_a_question_are_soft_labels_of_it_alone():
    rows = answer_rows(10, TASK, left_out=("move",), with_gold=True)
    alone = rows_of(rows, TASK.find("move"))
    assert len(alone) == 5 and list(alone[0].probs) == ["up", "flat", "down"]
    assert all(row.gold in ("up", "flat", "down") for row in alone)
    chart = rows_of(rows, TASK.find("topics"), "chart")
    assert [row.gold == "yes" for row in chart] == ["chart" in row.gold["topics"] for row in rows]
    assert all(abs(sum(row.probs.values()) - 1) < 1e-9 and sum(row.votes.values()) == row.n_paths for row in chart)
    with pytest.raises(ValueError, match="a soft label for each tag"):
        rows_of(rows, TASK.find("topics"))


def test_a_file_of_one_question_and_one_of_several_are_told_apart(tmp_path):
    path = tmp_path / "soft.parquet"
    write_soft_answers(path, answer_rows(3, TASK))
    with pytest.raises(FormatError, match="format: is 'potstill.soft_labels.2'; this version reads 'potstill.soft_labels.1'"):
        read_soft_labels(path)


def changed(row, name, **changes):
    return msgspec.structs.replace(row, answers=row.answers | {name: msgspec.structs.replace(row.answers[name], **changes)})


BROKEN = [
    (lambda r: changed(r, "move", probs={"up": 0.5, "flat": 0.5}), "answers.move.probs: has labels ['flat', 'up']"),
    (lambda r: changed(r, "move", probs={"up": 0.5, "flat": 0.5, "down": 0.5}), "answers.move.probs: sum to 1.5"),
    (lambda r: changed(r, "topics", probs={"news": 1.5, "chart": 0.0, "people": 0.0}), "answers.topics.probs: are"),
    (lambda r: changed(r, "topics", votes={"news": 9, "chart": 0, "people": 0}), "answers.topics.votes: come to 9 of 8 paths"),
    (lambda r: changed(r, "asks", votes={"yes": 5, "no": 5}), "answers.asks.votes: come to 10 of 8 paths"),
    (lambda r: msgspec.structs.replace(r, answers={"mood": r.answers["move"]}), "answers.mood: is not a question"),
    (
        lambda r: msgspec.structs.replace(r, gold={"move": ["up", "down"]}),
        "gold.move: is ['up', 'down']; a question of kind choice",
    ),
    (lambda r: msgspec.structs.replace(r, gold={"topics": ["rain"]}), "gold.topics: 'rain' is not a tag"),
]


@pytest.mark.parametrize(("change", "problem"), BROKEN)
def test_a_row_that_breaks_a_rule_is_refused(tmp_path, change, problem):
    path = tmp_path / "soft.jsonl"
    write_soft_answers(path, [change(answer_rows(1, TASK)[0])])
    with pytest.raises(FormatError) as caught:
        read_soft_answers(path, TASK.questions)
    assert problem in str(caught.value)
