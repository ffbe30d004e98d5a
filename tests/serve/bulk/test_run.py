"""Files of any size answered by processes: the same answers as the classifier's, in order, whatever the form, kills included."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as parquet
import pytest
from support.tiny_bundle import LABELS, some_heads, write_bundle

from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.serve.bulk import output
from potstill.serve.bulk.run import predict_to_file, predict_to_stream
from potstill.serve.config import PredictConfig
from potstill.serve.offline.predict import predict_file
from potstill.serve.runtime.classifier import Classifier

TWO = PredictConfig(workers=2)
TEXTS = [f"the price will {word} {'e' * (n % 23)} {n}" for n in range(500) for word in ("rise", "fall", "stay")]
MANY = TEXTS * 14  # 82 pieces: more than are read ahead, in processes


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bulk") / "bundle")


@pytest.fixture(scope="module")
def many(tmp_path_factory, bundle):
    """A large file of texts, and the lines that an unbroken run writes."""
    folder = tmp_path_factory.mktemp("many")
    write_lines(folder / "many.jsonl", MANY)
    predict_to_file(bundle, folder / "many.jsonl", folder / "whole.jsonl", TWO)
    return folder / "many.jsonl", (folder / "whole.jsonl").read_bytes()


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"id": f"row{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def stream(bundle, path, **options):
    out = io.BytesIO()
    predict_to_stream(bundle, path, out, PredictConfig(workers=2), **options)
    return out.getvalue()


def test_many_texts_get_the_answers_of_the_classifier_in_order(bundle, many):
    rows = [json.loads(line) for line in many[1].splitlines()]
    assert [row["id"] for row in rows] == [f"row{n}" for n in range(len(MANY))]
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(TEXTS)
    for row, answer in zip(rows, expected * 14, strict=True):
        assert (row["label"], row["probs"]) == (answer.label, answer.probs)


def test_every_kind_of_file_gives_the_lines_that_the_small_way_gives(bundle, tmp_path):
    lines = write_lines(tmp_path / "texts.jsonl", TEXTS)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    (tmp_path / "texts.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "id"], *([row["text"], row["id"]] for row in rows)])
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "texts.parquet", row_group_size=700)
    (tmp_path / "folder/deeper").mkdir(parents=True)
    write_lines(tmp_path / "folder/deeper/b.jsonl", [])
    for name, part in (("a.jsonl", rows[:900]), ("deeper/b.jsonl", rows[900:])):
        (tmp_path / "folder" / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "folder/_left.jsonl").write_text("not looked at")
    expected = [(row.id, row.probs) for row in predict_file(bundle, lines)[0]]
    for name in ("texts.jsonl", "texts.jsonl.gz", "texts.csv", "texts.parquet", "folder"):
        found = [json.loads(line) for line in stream(bundle, tmp_path / name).splitlines()]
        assert [(row["id"], row["probs"]) for row in found] == expected, name


def test_every_form_of_output_holds_the_same_answers(bundle, tmp_path):
    path = write_lines(tmp_path / "texts.jsonl", [*TEXTS[:600], " "])
    reports = [
        predict_to_file(bundle, path, tmp_path / name, TWO) for name in ("a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "parts")
    ]
    assert {(report.n_rows, report.n_skipped) for report in reports} == {(601, 1)}
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()
    flat = [
        {"id": row["id"], "label": row["label"], "abstain": row["abstain"]}
        | {f"probs.{label}": row["probs"].get(label) for label in LABELS}
        | {"skipped": row.get("skipped")}
        for row in rows
    ]
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == flat
    assert parquet.read_table(tmp_path / "parts").to_pylist() == flat
    assert os.listdir(tmp_path / "parts") == ["part-00000.parquet"]
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["id"] for row in cells] == [row["id"] for row in flat]
    assert [float(row["probs.up"]) for row in cells[:-1]] == [row["probs.up"] for row in flat[:-1]]
    assert (cells[-1]["probs.up"], cells[-1]["label"], cells[-1]["skipped"], cells[-1]["abstain"]) == ("", "", "empty", "true")
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.jsonl", "a.jsonl.gz", "a.parquet", "parts", "texts.jsonl"]


def test_label_sets_targets_and_several_questions_have_columns(tmp_path):
    sets = write_bundle(tmp_path / "sets", conformal=Conformal(coverage=0.8, quantile=1.0, n=20, source="gold"))
    about = write_bundle(tmp_path / "about", target=True)
    asked = write_bundle(tmp_path / "asked", heads=some_heads())
    (tmp_path / "a.jsonl").write_text('{"text": "rise"}\n{"text": ""}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "rise", "target": "the price"}\n')
    predict_to_file(sets, tmp_path / "a.jsonl", tmp_path / "sets.parquet", PredictConfig(sets=True))
    predict_to_file(about, tmp_path / "b.jsonl", tmp_path / "about.parquet")
    predict_to_file(asked, tmp_path / "a.jsonl", tmp_path / "asked.parquet", PredictConfig(sets=True))
    assert parquet.read_table(tmp_path / "sets.parquet").column("label_set").to_pylist() == [LABELS, None]
    assert parquet.read_table(tmp_path / "about.parquet").column("target").to_pylist() == ["the price"]
    table = parquet.read_table(tmp_path / "asked.parquet")
    expected = next(iter(predict_file(asked, tmp_path / "a.jsonl", PredictConfig(sets=True))[0])).questions
    row = table.to_pylist()[0]
    assert row["move.label"] == expected["move"].label and row["move.label_set"] == expected["move"].label_set
    assert row["topics.tags"] == expected["topics"].tags and row["sure.value"] == expected["sure"].value
    assert {name: row[f"asks.probs.{name}"] for name in ("yes", "no")} == expected["asks"].probs
    assert stream(asked, tmp_path / "a.jsonl", form="csv").count(b"\n") == 3


KILLED = """
import sys
from pathlib import Path
from potstill.serve.bulk import output
from potstill.serve.bulk.run import predict_to_file
from potstill.serve.config import PredictConfig
output.PIECES_PER_PART = 16
if __name__ == "__main__":
    predict_to_file(*sys.argv[1:4], PredictConfig(workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.parquet", "out"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(bundle, many, tmp_path, repository, monkeypatch, name):
    monkeypatch.setattr(output, "PIECES_PER_PART", 16)  # there and here
    whole = tmp_path / f"whole{name.removeprefix('out')}"
    predict_to_file(bundle, many[0], whole, TWO)
    (tmp_path / "run.py").write_text(KILLED)
    out = tmp_path / name
    growing = out if name == "out" else tmp_path / f"{name}.partial"
    command = [sys.executable, str(tmp_path / "run.py"), str(bundle), str(many[0]), str(out)]
    n_kills = 0
    while True:
        before = size_of(growing)
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(repository)}) as process:
            while process.poll() is None and n_kills < 3:
                if growing.exists() and size_of(growing) > before:
                    time.sleep(0.05)
                    process.send_signal(signal.SIGKILL)
                    n_kills += 1
                    break
                time.sleep(0.005)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert n_kills
    contents = [
        [file.read_bytes() for file in sorted(place.iterdir())] if place.is_dir() else place.read_bytes() for place in (out, whole)
    ]
    assert contents[0] == contents[1]
    assert not growing.exists() or growing == out
    assert not list(tmp_path.glob("*.progress"))


def size_of(place):
    """Bytes in a file, or in a folder's."""
    if place.is_dir():
        return sum(file.stat().st_size for file in place.iterdir())
    return place.stat().st_size if place.exists() else 0


def begin_and_stop(bundle, path, out, after):
    """Begin a run, and stop it as Ctrl-C does when that many rows are done."""

    def stop(n_rows):
        if n_rows >= after:
            raise KeyboardInterrupt

    with pytest.raises(UserError, match="the same command goes on from there") as stopped:
        predict_to_file(bundle, path, out, TWO, report=stop)
    return str(stopped.value)


def test_a_stopped_run_says_where_and_goes_on_there(bundle, many, tmp_path):
    out = tmp_path / "out.jsonl"
    assert begin_and_stop(bundle, many[0], out, 2000) == f"{out}: stopped after 2048 rows; the same command goes on from there"
    report = predict_to_file(bundle, many[0], out, TWO)
    assert (report.n_before, report.n_rows) == (2048, len(MANY))
    assert out.read_bytes() == many[1]
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_another_input_bundle_or_option_is_not_mixed_into_a_begun_output(bundle, many, tmp_path):
    out = tmp_path / "out.jsonl"
    begin_and_stop(bundle, many[0], out, 2000)
    with pytest.raises(UserError, match="is not what .*out.jsonl was begun with"):
        predict_to_file(bundle, write_lines(tmp_path / "other.jsonl", MANY[1:]), out, TWO)
    other = write_bundle(tmp_path / "other", seed=3)
    with pytest.raises(UserError, match=r"was begun with another bundle or other options; remove .*\.partial and .*\.progress"):
        predict_to_file(other, many[0], out, TWO)
    predict_to_file(bundle, many[0], out, TWO)
    assert out.read_bytes() == many[1]
    with pytest.raises(UserError, match=r"^.*out.jsonl: exists already; remove it, or name another place$"):
        predict_to_file(bundle, many[0], out, TWO)


def test_a_malformed_row_far_behind_ends_the_run_at_its_line_and_mending_it_lets_it_go_on(bundle, many, tmp_path):
    lines = many[0].read_text().splitlines(keepends=True)
    path, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join([*lines[:20000], '{"text": 5}\n', *lines[20001:]]))
    with pytest.raises(FormatError, match=r"^.*bad.jsonl: line 20001: text: expected `str \| null`, got `int`$"):
        predict_to_file(bundle, path, out, TWO)
    path.write_text("".join(lines))
    report = predict_to_file(bundle, path, out, TWO)
    assert report.n_before == 20000 // 256 * 256
    assert out.read_bytes() == many[1]


def test_malformed_rows_are_written_aside_on_request(bundle, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "rise", "id": 1}\n{"text"\n{"text": "f\xff"}\n{"text": "fall", "id": 2}\n')
    report = predict_to_file(bundle, tmp_path / "a.jsonl", tmp_path / "out.jsonl", TWO, bad_rows=tmp_path / "bad.jsonl")
    assert (report.n_rows, report.n_bad) == (2, 2)
    assert report.notes() == ["2 further rows are malformed; they are in the file of bad rows"]
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["1", "2"]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [row["place"] for row in bad] == ["line 2", "line 3"]
    assert all(row["file"] == str(tmp_path / "a.jsonl") and "not valid JSON" in row["problem"] for row in bad)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "a", "id": 1}\n{"text": "b", "id": 1}', "a.jsonl: line 2: id '1' already belongs to another text"),
        ("a.jsonl", b'{"text": "a", "target": "b"}', "line 1: target: is given, but the task has none"),
        ("a.jsonl", b"\n", "has no usable text"),
        ("a.jsonl.gz", b"plain", "a.jsonl.gz: cannot be read: Not a gzipped file"),
        ("a.csv", b"words\nrise\n", "header: has no column 'text'"),
        ("a.csv", b"text\nri\nse\n\xff\n", "a.csv: line 4: byte 0xff is not UTF-8"),
        ("a.csv", b"text,id\nrise\n", "line 2: has 1 cell, the header 2"),
        ("a.parquet", b"PAR1", "a.parquet: not a readable Parquet file"),
        ("a.txt", b"rise", "unknown kind '.txt'"),
    ],
)
def test_a_malformed_file_is_refused_before_anything_is_written(bundle, tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=problem):
        predict_to_file(bundle, tmp_path / name, tmp_path / "out.jsonl")
    assert os.listdir(tmp_path) == [name]


def test_a_folder_without_texts_is_refused(bundle, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match=r"folder: holds no file of texts; a folder may hold \.jsonl, "):
        stream(bundle, tmp_path / "folder")
