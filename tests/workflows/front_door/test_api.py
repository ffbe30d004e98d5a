"""`potstill.label` and the other calls of a program or a notebook: texts in any form, results that show, and progress where somebody watches."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from support.tiny_backbone import VOCABULARY, write_backbone
from support.tiny_bundle import write_bundle, write_gold
from support.toy_task import LABELS, a_task, gold_texts, quick, toy_rows, write_rows

import potstill
from potstill.api import as_texts
from potstill.contract.errors import UserError
from potstill.contract.interchange.notebook import Shown
from potstill.contract.texts import Text, write_texts

pytestmark = pytest.mark.slow

WORDS = ["rise today", "fall, maybe", "so it stays"]
QUICK_LABELS = potstill.LabelConfig(mode="direct", n_paths=2, deterministic=True)


# Texts


@pytest.mark.parametrize(
    "form",
    [
        WORDS,
        tuple(WORDS),
        (word for word in WORDS),
        np.array(WORDS),
        pandas.Series(WORDS),
        pandas.DataFrame({"text": WORDS, "stars": [1, 2, 3]}),
        [{"text": word} for word in WORDS],
        [Text(word) for word in WORDS],
    ],
    ids=["list", "tuple", "generator", "array", "series", "table", "rows", "texts"],
)
def test_every_form_holds_the_same_texts(form):
    assert as_texts(form) == [Text(word) for word in WORDS]


def test_a_table_keeps_what_is_known_and_leaves_out_what_is_absent():
    table = pandas.DataFrame({"id": [7, 8], "text": WORDS[:2], "target": ["acme", None], "gold": [float("nan"), "down"]})
    assert as_texts(table) == [Text(WORDS[0], "7", "acme"), Text(WORDS[1], "8", None, "down")]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (pandas.DataFrame({"comment": WORDS}), "the table has the columns comment; one must be 'text'"),
        (3, "the texts are of the type int; give a file, a list of strings, or a table with a column 'text'"),
        ({"text": "a"}, "the texts are of the type dict; give a file, a list of strings, or a table with a column 'text'"),
        ([], "there is no text; give at least one"),
        (["a", 5], "text 1 is 5; every text must be a string"),
        ([{"text": "a", "label": "up"}], "text 0 has the key 'label'; allowed: text, id, target, gold"),
    ],
    ids=["no column", "number", "mapping", "none", "no string", "unknown key"],
)
def test_what_holds_no_texts_is_refused(form, message):
    with pytest.raises(UserError) as error:
        as_texts(form)
    assert str(error.value) == message


def test_labels_of_a_table_are_those_of_the_same_texts_in_a_file(tmp_path, tiny_models):
    texts = gold_texts(12)
    (tmp_path / "texts.jsonl").write_bytes(write_texts([Text(text.text) for text in texts[:8]]))
    (tmp_path / "gold.jsonl").write_bytes(write_texts(texts[8:]))
    table = pandas.DataFrame({"text": [text.text for text in texts[:8]]})
    gold = pandas.DataFrame({"text": [text.text for text in texts[8:]], "gold": [text.gold for text in texts[8:]]})
    teacher = potstill.TeacherConfig(name=str(tiny_models["dense"]), threads=1)
    for out, pool, known in (("file", tmp_path / "texts.jsonl", tmp_path / "gold.jsonl"), ("table", table, gold)):
        potstill.label(a_task(), pool, tmp_path / out, QUICK_LABELS, gold=known, teacher=teacher)
    for name in ("soft_labels.parquet", "gold_labels.parquet"):
        found, expected = (pandas.read_parquet(tmp_path / out / name) for out in ("table", "file"))
        columns = ["text", "probs", "gold"] if "gold" in found else ["text", "probs"]
        assert found[columns].astype(str).equals(expected[columns].astype(str))
    kept = (tmp_path / "table" / "texts.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in kept] == table["text"].tolist()


# Results


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, Shown]:
    folder = tmp_path_factory.mktemp("results")
    soft_labels = write_rows(folder / "soft_labels.jsonl", toy_rows(300, a_task()))
    backbone = write_backbone(folder / "backbone", VOCABULARY)
    gold = pandas.DataFrame([{"text": text.text, "gold": text.gold} for text in gold_texts()])
    bundle = write_bundle(folder / "certified")
    promised = potstill.CertifyConfig(accuracy=0.8)
    right = [json.loads(line) for line in write_gold(folder / "right.jsonl", bundle, 0, 0.97).read_text().splitlines()]
    return {
        "distill": potstill.distill(a_task(), soft_labels, folder / "student", quick(backbone)),
        "evaluate": potstill.evaluate(folder / "student", gold),
        "export_bundle": potstill.export_bundle(folder / "student", folder / "bundle", potstill.ExportConfig(variant="float")),
        "certify": potstill.certify(bundle, pandas.DataFrame(right), folder / "out", promised),
        "calibrate": potstill.calibrate(folder / "student", gold, potstill.ConfidenceConfig(coverage=0.8)),
    }


@pytest.mark.parametrize("name", ["distill", "evaluate", "export_bundle", "certify", "calibrate"])
def test_a_result_shows_its_lines_in_a_console_and_a_table_in_a_notebook(results, name):
    result = results[name]
    assert repr(result) == result.as_text() and "object at" not in repr(result)
    page = result._repr_html_()
    for row in result.cells():
        assert all(cell.replace("<", "&lt;").replace(">", "&gt;") in page for cell in row)
    assert ("<table" in page) == bool(result.cells())
    assert not re.search(r"https?:|src=|<script|<link", page)


def test_scores_of_a_table_are_those_of_the_file(results, tmp_path):
    file = tmp_path / "gold.jsonl"
    file.write_bytes(write_texts(gold_texts()))
    student = results["distill"].checkpoint
    assert potstill.evaluate(student, file).scores == results["evaluate"].scores
    assert results["evaluate"].cells()[1][:2] == ["student", str(len(gold_texts()))]


def test_confidence_from_a_table_or_a_list_is_that_from_the_file(results, tmp_path):
    file = tmp_path / "gold.jsonl"
    file.write_bytes(write_texts(gold_texts()))
    rows = [{"text": text.text, "gold": text.gold} for text in gold_texts()]
    checkpoint = results["distill"].checkpoint
    found = [
        potstill.calibrate(checkpoint, gold, potstill.ConfidenceConfig(coverage=0.8))
        for gold in (file, rows, pandas.DataFrame(rows))
    ]
    assert found[0].sets is not None and found[0].sets == found[1].sets == found[2].sets


def test_answers_to_several_questions_are_kept_as_a_file_has_them():
    [text] = as_texts([{"text": "a", "gold": {"stance": "up", "topics": ["x", "y"]}}])
    assert json.loads(text.gold) == {"stance": "up", "topics": ["x", "y"]}


def test_what_a_text_says_is_no_html():
    class Result(Shown):
        def as_text(self):
            return "a <script>alert(1)</script> & more"

        def cells(self):
            return [["label"], ["<b>bold</b>"]]

    page = Result()._repr_html_()
    assert "<script" not in page and "<b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page and "&amp; more" in page


# Progress


def test_nobody_watches_a_program_whose_output_goes_to_a_file(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    soft_labels = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    backbone = write_backbone(tmp_path / "backbone", VOCABULARY)
    capfd.readouterr()  # transformers 5 shows a bar for writing it
    potstill.distill(a_task(), soft_labels, tmp_path / "student", quick(backbone))
    assert capfd.readouterr().err == ""


def test_a_callback_of_the_caller_takes_the_place_of_the_bar(tmp_path):
    soft_labels, seen = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task())), []
    backbone = write_backbone(tmp_path / "backbone", VOCABULARY)
    potstill.distill(a_task(), soft_labels, tmp_path / "student", quick(backbone), lambda *step: seen.append(step))
    assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen) and seen[-1][1] == seen[-1][2]


def test_a_task_in_a_program_is_that_of_a_file(tmp_path):
    labels = [potstill.Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    task = potstill.Task(format=1, name="moves", question="?", labels=labels)
    file = tmp_path / "task.toml"
    rows = "".join(f'[[labels]]\nname = "{name}"\nmeaning = "the price goes {name}"\n' for name in LABELS)
    Path(file).write_text(f'format = 1\nname = "moves"\nquestion = "?"\n{rows}')
    assert potstill.load_task(file).digest == task.digest
