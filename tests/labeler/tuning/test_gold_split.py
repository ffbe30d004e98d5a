"""The gold texts of tuning: two halves that hold every label in equal parts, the same whatever the order of the file."""

import json
from pathlib import Path

import numpy as np
import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.task import Example, Label, Task
from potstill.labeler.tuning.gold_split import gold_halves

NAMES = ["up", "down", "flat"]
TASK = Task(
    format=1,
    name="t",
    question="?",
    guideline="",
    labels=[Label(name=name, meaning="m") for name in NAMES],
    examples=[Example(text=f"shown {name}", rationale="r", label=name) for name in NAMES],
)


def write(folder: Path, rows: list[tuple[str, str]]) -> Path:
    file = folder / "gold.jsonl"
    file.write_text("".join(json.dumps({"text": text, "gold": gold}) + "\n" for text, gold in rows))
    return file


def rows(n: int, names: list[str] = NAMES) -> list[tuple[str, str]]:
    return [(f"text {i}", names[i % len(names)]) for i in range(n)]


@pytest.mark.parametrize("n", [20, 21, 22, 61])
def test_every_label_is_in_both_halves_in_equal_parts(tmp_path: Path, n):
    found = gold_halves(TASK, write(tmp_path, rows(n)))
    for label in range(3):
        own = found.chooses[found.gold == label]
        assert abs(int(own.sum()) - int((~own).sum())) <= 1
    assert abs(int(found.chooses.sum()) - int((~found.chooses).sum())) <= 1
    assert [TASK.label_names[k] for k in found.gold] == [text.gold for text in found.texts]


def test_the_order_of_the_file_changes_nothing(tmp_path: Path):
    one, two = gold_halves(TASK, write(tmp_path, rows(60))), gold_halves(TASK, write(tmp_path, rows(60)[::-1]))
    assert one.texts == two.texts
    np.testing.assert_array_equal(one.chooses, two.chooses)


def test_of_too_many_texts_the_first_by_digest_are_used_and_adding_one_moves_at_most_one(tmp_path: Path):
    found = gold_halves(TASK, write(tmp_path, rows(400)))
    assert len(found.texts) == 300
    assert found.notes == ["of 400 gold texts, the first 300 in the order of their digests are used (--max-texts)"]
    more = gold_halves(TASK, write(tmp_path, rows(401)))
    assert len({text.id for text in more.texts} - {text.id for text in found.texts}) <= 1


def test_few_texts_are_told_and_worked_examples_are_left_out(tmp_path: Path):
    found = gold_halves(TASK, write(tmp_path, [*rows(30), ("shown up", "up"), ("text 3", "up"), ("", "up")]))
    assert len(found.texts) == 30
    assert found.notes == [
        "skipped 1 of 33 rows: 1 empty; 1 of 33 rows are further labels of a text",
        "left out 1 gold texts that are worked examples of the task",
        "30 gold texts are few: half of them select, so two or three texts decide; use 50 or more",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows(19), "holds 19 usable texts with gold; tuning needs at least 20: label more by hand"),
        (rows(24, ["up", "down"]), "holds 0 of 24 texts with the gold label 'flat'; tuning needs at least 2 of every label, one for each half: add some"),
        ([*rows(24, ["up", "down"]), ("x", "flat")], "holds 1 of 25 texts with the gold label 'flat'; tuning needs at least 2 of every label, one for each half: add some"),
        ([("shown up", "up"), *rows(19)], "holds 19 usable texts with gold; tuning needs at least 20: label more by hand"),
    ],
)  # fmt: skip
def test_too_little_gold_is_one_clear_error(tmp_path: Path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(FormatError) as caught:
        gold_halves(TASK, file)
    assert str(caught.value) == f"{file}: {message}"


def test_too_small_a_limit_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="max texts is 19; it must be at least 20"):
        gold_halves(TASK, write(tmp_path, rows(40)), 19)
