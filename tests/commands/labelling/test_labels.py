"""`potstill labels`: soft labels, comparison and check of a store at the console, in this process."""

import csv
import json
import sqlite3
import sys

import pytest
from support.sample_texts import drawn_texts

from potstill.commands.main import run as console
from potstill.commands.options.labelling import Prior
from potstill.contract.soft_label import read_soft_labels

pytestmark = pytest.mark.slow

NOTE = "note: each prompt's preference for single labels is estimated on the 12 texts of this run and removed until the labels' shares are "


@pytest.fixture
def labels(stored, monkeypatch, capsys):
    """Runs `potstill labels` in the folder of a store with 12 texts and three variants; gives exit code, stdout and stderr."""
    table = {f"{i:02d}": [(v, (0.6, 0.3) if (i + v) % 3 else (0.3, 0.6)) for v in range(3)] for i in range(12)}
    store, _ = stored(table, {f"{i:02d}": "up" if i % 3 else "down" for i in range(12)})
    store.close()
    monkeypatch.chdir(store.path.parent)

    def labels(*args):
        capsys.readouterr()
        return (console(["labels", *args]), *capsys.readouterr())

    return labels


def test_derive_writes_soft_labels_and_tells_its_doubts_on_stderr(labels, tmp_path):
    code, out, err = labels("derive", "labels.db", "soft.jsonl", "--prior", "up=0.6, down=0.4", "--weighting", "even")
    assert (code, out) == (0, "wrote 12 soft labels to soft.jsonl (calibrated(up=0.6,down=0.4))\n")
    assert err == NOTE + "the stated ones\n"
    assert len(read_soft_labels(tmp_path / "soft.jsonl", labels=["up", "down"])) == 12


def test_a_stated_share_may_be_of_a_label_with_commas_and_equals_signs():
    written = "yes, pleased=0.4,no = annoyed=0.35, a,b,c = 0.25"
    assert Prior().convert(written, None, None) == {"yes, pleased": 0.4, "no = annoyed": 0.35, "a,b,c": 0.25}


@pytest.mark.parametrize("method", ["calibrated", "majority", "votes", "mean", "affine"])
def test_every_method_is_there(labels, tmp_path, method):
    code, out, _ = labels("derive", "labels.db", "soft.parquet", "--method", method)
    assert (code, out) == (0, f"wrote 12 soft labels to soft.parquet ({method})\n")
    assert {row.method for row in read_soft_labels(tmp_path / "soft.parquet")} == {method}


def test_summary_is_tables_for_a_person_and_one_object_for_a_machine(labels):
    code, out, err = labels("summary", "labels.db")
    assert code == 0 and "on 12 gold texts, with 95 % intervals" in out
    assert err == NOTE + "even; state known shares with --prior\n"
    code, out, _ = labels("summary", "labels.db", "--json", "--prior", "up=0.5,down=0.5")
    found = json.loads(out)
    assert code == 0 and found["n_gold"] == 12
    assert [row["name"] for row in found["methods"]][:2] == ["calibrated(up=0.5,down=0.5)", "majority(up=0.5,down=0.5)"]
    assert set(found["methods"][0]["scores"]) == {"accuracy", "macro_f1", "log_loss", "brier", "ece"}


def test_check_says_that_a_store_is_sound(labels):
    assert labels("check", "labels.db") == (
        0,
        "labels.db: sound; 1 run, 12 texts\n  run 1: mode direct, 36 paths of 12 texts, 0 texts too long\n",
        "",
    )


def test_check_prints_a_line_a_fault_and_exits_with_1(labels):
    with sqlite3.connect("labels.db") as connection:
        connection.execute("delete from texts where id = '00'")
        connection.execute("update paths set variant = 99 where text_id = '01'")
    connection.close()
    code, out, err = labels("check", "labels.db")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "potstill: labels.db: 3 rows of paths refer to missing texts; restore a copy of the store, or label into another folder",
        "potstill: labels.db: run 1: 3 of 36 paths have a variant that the run lacks (it has 0 to 7); label again with --new-run",
    ]
    code, _, err = labels("derive", "labels.db", "soft.jsonl")
    assert (code, err) == (1, "potstill: labels.db: has paths of an unknown text '00'; look with: potstill labels check\n")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("update paths set word_logprobs = '[' where text_id = '03'", "labels.db: path 0 of text '03': is damaged: its log-probabilities are '['; restore a copy, or label into another folder"),
        ("update runs set settings = '{'", "labels.db: settings of run 1: are damaged or of a newer version (Input data was truncated); restore a copy, update potstill, or label into another folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(labels, change, line):
    with sqlite3.connect("labels.db") as connection:
        connection.execute(change)
    connection.close()
    assert labels("derive", "labels.db", "soft.jsonl") == (1, "", f"potstill: {line}\n")


@pytest.mark.parametrize("command", [("derive", "labels.db", "soft.jsonl"), ("summary", "labels.db"), ("check", "labels.db")])
def test_a_truncated_store_is_one_line(labels, tmp_path, command):
    file = tmp_path / "labels.db"
    file.write_bytes(file.read_bytes()[:10_000])
    code, out, err = labels(*command)
    assert (code, out) == (1, "")
    assert err.startswith("potstill: labels.db: ") and "damaged" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prior", "up"), 2, "'up' is not LABEL=SHARE; write for example bullish=0.4,bearish=0.3,neutral=0.3"),
        (("--prior", "up=half"), 2, "'up=half' is not LABEL=SHARE"),
        (("--prior", "up=0.5,up=0.5"), 2, "names 'up' twice"),
        (("--method", "best"), 2, "'best' is not one of 'calibrated', 'majority', 'votes', 'mean', 'matched', 'affine'"),
        (("--prior", "up=0.5,right=0.5"), 1, "potstill: prior: 'right' is not a label; the labels are up, down\n"),
        (("--method", "matched"), 1, "potstill: method matched needs the labels' shares; state them, for example: --prior up=0.5,down=0.5\n"),
        (("--smooth", "12"), 1, "potstill: smooth is 12 neighbours, and the run has 12 texts; ask for at most 11\n"),
        (("--smooth", "3", "--backbone", "no-such"), 1, "potstill: 'no-such' is neither a file nor a known backbone; known: "),
        (("--run", "7"), 1, "potstill: labels.db: has no run 7; it has 1\n"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_and_nothing_is_written(labels, tmp_path, options, code, message):
    found, out, err = labels("derive", "labels.db", "soft.jsonl", *options)
    assert (found, out) == (code, "")
    assert message in err
    assert not (tmp_path / "soft.jsonl").exists()


def test_smoothing_without_torch_names_the_extra_that_brings_it(labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "potstill.labeler.embeddings", raising=False)
    code, _, err = labels("derive", "labels.db", "soft.jsonl", "--smooth", "3")
    assert (code, err) == (1, "potstill: the package 'torch' is not installed; install it with: pip install 'potstill[train]'\n")


def test_without_smoothing_no_training_library_is_loaded(labels, repository):
    import subprocess

    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from potstill.commands.main import run; run(['labels', 'derive', 'labels.db', 'soft.jsonl']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("\nFalse\n"), done.stderr


# check-pool


@pytest.fixture
def check_pool(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder with texts of two lengths and a few; gives exit code, stdout and stderr."""
    with (tmp_path / "long.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in drawn_texts(80, 1, words=(40, 80)))])
    for name, texts in {"short": drawn_texts(80, 2), "alike": drawn_texts(80, 3), "few": drawn_texts(9, 4)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, ""]))
    monkeypatch.chdir(tmp_path)

    def check_pool(*args):
        capsys.readouterr()
        return (console(["labels", "check-pool", *args]), *capsys.readouterr())

    return check_pool


def test_a_warning_goes_to_stderr_and_is_no_error(check_pool):
    code, out, err = check_pool("long.csv", "short.jsonl")
    assert code == 0 and out.startswith("80 of 80 pool texts against 80 of 80 target texts\n")
    skipped, warning = err.splitlines()
    assert skipped == "short.jsonl: skipped 1 of 81 rows: 1 empty"
    assert warning.startswith("warning: pool and target texts are easy to tell apart (AUC ")


def test_texts_of_one_source_are_no_warning_and_the_json_says_so(check_pool):
    code, out, err = check_pool("alike.jsonl", "short.jsonl", "--json")
    assert code == 0 and "warning" not in err
    found = json.loads(out)
    assert found["warning"] is False and found["advice"] == [] and found["auc"]["low"] < 0.5 < found["auc"]["high"]


def test_too_few_texts_are_one_line(check_pool):
    code, out, err = check_pool("alike.jsonl", "few.jsonl")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "potstill: few.jsonl: holds 9 different texts; at least 50 are needed on each side; add some"
