"""`potstill labels check-pool` at the console, in this process."""

import csv
import json

import pytest
from support.sample_texts import drawn_texts

from potstill.commands.main import run as console


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder with texts of two lengths and a few; gives exit code, stdout and stderr."""
    with (tmp_path / "long.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in drawn_texts(80, 1, words=(40, 80)))])
    for name, texts in {"short": drawn_texts(80, 2), "alike": drawn_texts(80, 3), "few": drawn_texts(9, 4)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, ""]))
    monkeypatch.chdir(tmp_path)

    def check(*args):
        capsys.readouterr()
        return (console(["labels", "check-pool", *args]), *capsys.readouterr())

    return check


def test_a_warning_goes_to_stderr_and_is_no_error(check):
    code, out, err = check("long.csv", "short.jsonl")
    assert code == 0 and out.startswith("80 of 80 pool texts against 80 of 80 target texts\n")
    skipped, warning = err.splitlines()
    assert skipped == "short.jsonl: skipped 1 of 81 rows: 1 empty"
    assert warning.startswith("warning: pool and target texts are easy to tell apart (AUC ")


def test_texts_of_one_source_are_no_warning_and_the_json_says_so(check):
    code, out, err = check("alike.jsonl", "short.jsonl", "--json")
    assert code == 0 and "warning" not in err
    found = json.loads(out)
    assert found["warning"] is False and found["advice"] == [] and found["auc"]["low"] < 0.5 < found["auc"]["high"]


def test_too_few_texts_are_one_line(check):
    code, out, err = check("alike.jsonl", "few.jsonl")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "potstill: few.jsonl: holds 9 different texts; at least 50 are needed on each side; add some"
