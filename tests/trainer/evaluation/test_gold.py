from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.toy_moves import LABELS, gold_texts, write_gold

from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import Text, write_texts
from potstill.trainer.evaluation.gold import read_gold
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


def test_a_label_that_no_text_has_is_told_with_what_to_do(tmp_path):
    gold = read(write_gold(tmp_path / "gold.jsonl", [text for text in gold_texts(30) if text.gold != "flat"]))
    assert gold.notes == (
        "no gold text has the label 'flat', so its F1 is 0 for every system; score the other labels alone with --map 'flat='",
    )
    assert read(tmp_path / "gold.jsonl", "flat=").notes == ()


def test_rows_that_were_skipped_are_told(tmp_path):
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
