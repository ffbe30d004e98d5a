from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from support.toy_task import LABELS, a_task, gold_texts, soft_label, write_gold

from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import write_soft_labels
from potstill.contract.texts import Text, write_texts
from potstill.trainer.evaluation.gold import read_gold, read_teacher
from potstill.trainer.evaluation.label_map import parse_label_map

STUDENT = SimpleNamespace(labels=LABELS, target=False)
NAMES = {"up": "Positive", "flat": "none", "down": "negative"}


def read(path, *entries, student=STUDENT):
    return read_gold(path, student, parse_label_map(entries, student.labels))


def test_texts_keep_their_order_and_get_the_students_names(tmp_path):
    texts = gold_texts(30)
    gold = read(write_gold(tmp_path / "gold.jsonl", texts, NAMES), "positive=up,negative=down,none=flat")
    assert gold.texts == texts
    assert [gold.labels[i] for i in gold.classes] == [text.gold for text in texts]
    assert gold.notes == ()


def test_a_name_that_is_left_out_takes_its_texts_and_the_students_label_with_it(tmp_path):
    texts = gold_texts(30)
    gold = read(write_gold(tmp_path / "gold.jsonl", texts), "flat=")
    assert gold.labels == ["up", "down"]
    assert gold.texts == [text for text in texts if text.gold != "flat"]
    n_flat = len(texts) - len(gold.texts)
    assert gold.notes == (f"left out {n_flat} of {len(texts)} gold texts by the map: {n_flat} 'flat'",)


def test_a_label_that_no_text_has_is_noted_with_what_to_do(tmp_path):
    gold = read(write_gold(tmp_path / "gold.jsonl", [text for text in gold_texts(30) if text.gold != "flat"]))
    assert gold.notes == (
        "no gold text has the label 'flat', so its F1 is 0 for every system; score the other labels alone with --map 'flat='",
    )
    assert read(tmp_path / "gold.jsonl", "flat=").notes == ()


def test_rows_that_were_skipped_are_noted(tmp_path):
    (tmp_path / "gold.jsonl").write_bytes(write_texts([*gold_texts(30), Text(" ", gold="up")]))
    assert read(tmp_path / "gold.jsonl").notes[0].endswith(" rows: 1 empty")


def test_a_gold_label_that_is_mapped_nowhere_is_refused(tmp_path):
    path = write_gold(tmp_path / "gold.jsonl", gold_texts(9), NAMES)
    with pytest.raises(UserError, match=r"gold.jsonl: gold: 'Positive' is not a label; allowed: up, flat, down; say what"):
        read(path)


def test_a_map_that_leaves_out_every_text_is_refused(tmp_path):
    path = write_gold(tmp_path / "gold.jsonl", gold_texts(9), NAMES)
    with pytest.raises(UserError, match=r"gold.jsonl: the map leaves out all 9 texts; their labels are Positive, negative, none$"):
        read(path, "positive=,negative=,none=")


def test_a_target_that_the_student_cannot_read_is_refused(tmp_path):
    path = write_gold(tmp_path / "gold.jsonl", [Text("rise", target="acme", gold="up")])
    with pytest.raises(FormatError, match=r"target: is given, but the task has none"):
        read(path)


def a_gold(tmp_path, texts, student=STUDENT):
    return read_gold(write_gold(tmp_path / "gold.jsonl", texts), student, parse_label_map([], LABELS))


def labelled(tmp_path, rows):
    write_soft_labels(tmp_path / "teacher.jsonl", rows)
    return tmp_path / "teacher.jsonl"


def test_answers_are_found_by_text_whatever_their_order_and_ids(tmp_path):
    texts = gold_texts(30)
    rows = [soft_label(text.text, text.gold, a_task(), votes=5, id=f"other {i}") for i, text in enumerate(texts)]
    found = read_teacher(labelled(tmp_path, rows[::-1]), STUDENT, a_gold(tmp_path, texts))
    assert found.gold.texts == texts and found.gold.notes == () and found.n_unread == 0
    np.testing.assert_array_equal(found.probs, [[row.probs[name] for name in LABELS] for row in rows])


def test_a_text_about_another_target_is_another_text(tmp_path):
    student = SimpleNamespace(labels=LABELS, target=True)
    texts = [Text("rise", "1", "acme", "up"), Text("rise", "2", "beta", "down")]
    rows = [
        soft_label("rise", "down", a_task(target=True), target="beta"),
        soft_label("rise", "up", a_task(target=True), target="acme"),
    ]
    found = read_teacher(labelled(tmp_path, rows), student, a_gold(tmp_path, texts, student))
    np.testing.assert_array_equal(found.probs.argmax(axis=1), [0, 2])


def test_texts_that_the_teacher_lacks_are_scored_for_nobody_and_counted(tmp_path):
    texts = gold_texts(30)
    path = labelled(tmp_path, [soft_label(text.text, text.gold, a_task()) for text in texts[3:]])
    found = read_teacher(path, STUDENT, a_gold(tmp_path, texts))
    assert found.gold.texts == texts[3:] and len(found.probs) == len(texts) - 3
    assert found.gold.notes == (
        f"3 of {len(texts)} gold texts are not scored for any system, because {path} lacks the teacher's labels",
    )


def test_texts_that_no_path_could_label_count_as_what_the_teacher_said_and_are_counted(tmp_path):
    texts = gold_texts(9)
    rows = [soft_label(text.text, text.gold, a_task()) for text in texts]
    rows[0] = msgspec.structs.replace(rows[0], votes=dict.fromkeys(LABELS, 0), agreement=0.0, probs=dict.fromkeys(LABELS, 1 / 3))
    found = read_teacher(labelled(tmp_path, rows), STUDENT, a_gold(tmp_path, texts))
    assert found.n_unread == 1 and len(found.probs) == 9


def test_a_file_with_none_of_the_texts_is_refused_with_what_to_do(tmp_path):
    gold = a_gold(tmp_path, gold_texts(9))
    path = labelled(tmp_path, [soft_label("something else", "up", a_task())])
    with pytest.raises(
        UserError, match=r"teacher.jsonl: holds none of the 9 gold texts; label them with: potstill label --gold .*gold.jsonl"
    ):
        read_teacher(path, STUDENT, gold)


def test_a_file_of_other_labels_is_refused(tmp_path):
    row = msgspec.structs.replace(soft_label("rise", "up", a_task()), probs={"yes": 1.0, "no": 0.0}, votes={"yes": 1, "no": 0})
    with pytest.raises(FormatError, match=r"probs: has labels \['no', 'yes'\]; expected \['down', 'flat', 'up'\]"):
        read_teacher(labelled(tmp_path, [row]), STUDENT, a_gold(tmp_path, gold_texts(9)))
