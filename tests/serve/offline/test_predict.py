"""A file of texts answered by a bundle: in order, by many threads, through the console."""

from __future__ import annotations

import json
import subprocess

import pytest
from support.tiny_bundle import LABELS, write_bundle

from potstill.commands.main import run
from potstill.contract.errors import FormatError
from potstill.contract.questions.decision import Conformal
from potstill.serve.config import PredictConfig
from potstill.serve.offline.predict import predict_file
from potstill.serve.runtime.classifier import Classifier


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("predict") / "bundle")


ROWS = [f"the price will {word} {n}" for n in range(150) for word in ("rise", "fall")]  # more than are under way at once


def test_a_file_is_answered_in_order_as_the_classifier_would(bundle, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "id": f"row{i}"}) + "\n" for i, text in enumerate(ROWS)))
    predictions, skipped = predict_file(bundle, path, PredictConfig(workers=3))
    found = list(predictions)
    assert skipped == ""
    assert [row.id for row in found] == [f"row{i}" for i in range(len(ROWS))]
    with Classifier.open(bundle) as classifier:
        assert [(row.label, row.probs) for row in found] == [(answer.label, answer.probs) for answer in classifier.classify(ROWS)]


def test_the_command_prints_a_line_of_json_for_each_row_and_says_which_it_skipped(bundle, tmp_path, capsys):
    path = tmp_path / "texts.csv"
    path.write_text("id,text\na,rise\nb,\nc,fall\nd,fall\nc,fall\n")
    assert run(["predict", str(bundle), str(path)]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["id"], list(row["probs"])) for row in rows] == [
        ("a", LABELS),
        ("b", []),
        ("c", LABELS),
        ("d", LABELS),
        ("c", LABELS),
    ]
    assert rows[1] == {"id": "b", "label": None, "probs": {}, "abstain": True, "skipped": "empty"}
    assert rows[2] == rows[4]
    assert err == "1 of 5 rows is empty; no label is written for such a row\n"


def test_rows_without_ids_are_answered_by_their_place_repeated_or_not(bundle, tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text\nrise\nfall\nrise\nstay\n")
    first, second, third, fourth = predict_file(bundle, path, PredictConfig())[0]
    assert first == third and first.probs != second.probs != fourth.probs


def test_texts_come_through_a_pipe_as_well(bundle, tmp_path, console):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ROWS[:3])
    (tmp_path / "texts.jsonl").write_text(lines)
    said = [
        subprocess.run([*console, "predict", str(bundle), file], input=lines, capture_output=True, text=True)
        for file in ("-", "/dev/stdin")
    ]
    expected = [row.label for row in predict_file(bundle, tmp_path / "texts.jsonl", PredictConfig())[0]]
    for done in said:
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == expected


def test_targets_come_from_the_file(tmp_path):
    bundle = write_bundle(tmp_path / "pairs", target=True)
    path = tmp_path / "texts.tsv"
    path.write_text("text\ttarget\nrise\tthe price\nrise\tfall\n")
    predictions, _ = predict_file(bundle, path, PredictConfig())
    first, second = predictions
    assert (first.target, second.target) == ("the price", "fall")
    assert first.probs != second.probs


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b"{", "line 1: not valid JSON"),
        ("a.jsonl", b'{"text": "a", "target": "b"}', "line 1: target: is given, but the task has none"),
        ("a.csv", b"words\nrise\n", "header: has no column 'text'"),
        ("a.txt", b"rise", "unknown kind '.txt'"),
    ],
)
def test_a_malformed_file_is_refused_before_anything_is_answered(bundle, tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FormatError, match=problem):
        predict_file(bundle, path, PredictConfig())


def test_a_folder_that_is_no_bundle_is_one_line_and_exit_code_1(tmp_path, capsys):
    (tmp_path / "texts.csv").write_text("text\nrise\n")
    assert run(["predict", str(tmp_path / "none"), str(tmp_path / "texts.csv")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err
        == f"potstill: {tmp_path / 'none'}: is not a bundle: there is no such folder; check the path, or make one with: potstill export\n"
    )


def test_label_sets_are_written_on_request_and_refused_before_anything_is_answered(tmp_path, capsys):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "rise"}\n')
    conformal = Conformal(coverage=0.8, quantile=1.0, n=20, source="gold")
    holder, plain = write_bundle(tmp_path / "sets", conformal=conformal), write_bundle(tmp_path / "plain")
    assert run(["predict", str(holder), str(texts), "--sets"]) == 0
    assert json.loads(capsys.readouterr().out)["label_set"] == LABELS
    assert run(["predict", str(plain), str(texts), "--sets"]) == 1
    assert capsys.readouterr().err.startswith("potstill: label sets are asked for, but this bundle has no conformal quantile")
