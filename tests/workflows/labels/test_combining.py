"""`potstill labels combine`: a store's paths and other sources become one file of soft labels, from Python and from the console."""

import json
import subprocess

import pytest
from support.review_pages import some_texts, write_store
from support.small_task import SMALL_TASK

import potstill
from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text, write_texts
from potstill.labeler.store.people import HumanDecision, Journal
from potstill.labeler.weak_supervision.config import CombineConfig
from potstill.workflows.labels.combining import combine
from potstill.workflows.labels.sources import SourceConfig

pytestmark = pytest.mark.slow

RULES = """
[[rules]]
name = "odd"
label = "up"
pattern = 'number \\d*[13579] '

[[rules]]
name = "even"
label = "down"
pattern = 'number \\d*[02468] '
"""
TEXTS = some_texts(40)
ODD = {text.id for text in TEXTS if int(text.id[1:]) % 2}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK + RULES)
    (tmp_path / "plain.toml").write_text(SMALL_TASK)
    write_store(tmp_path / "labels.db", tmp_path / "plain.toml", TEXTS)
    gold = [Text(text.text, text.id, gold="up" if text.id in ODD else "down") for text in TEXTS]
    (tmp_path / "gold.jsonl").write_bytes(write_texts(gold))
    return tmp_path


def combined(folder, config=None, task="task.toml", **sources):
    return combine(
        folder / task,
        folder / "labels.db",
        folder / "combined.jsonl",
        config or CombineConfig(),
        SourceConfig(**sources),
        refine="off",
    )


def names(report):
    return [(source.name, source.kind) for source in report.sources]


def test_rules_vote_beside_the_teacher_and_the_gain_is_shown(folder):
    report = combined(folder, CombineConfig(accuracy=0.9, strength=100), gold=str(folder / "gold.jsonl"))
    assert names(report) == [("teacher", "teacher"), ("odd", "rule"), ("even", "rule")]
    assert report.scores.n_gold == 40 and report.scores.teacher.gain.value > 0.2
    rows = read_soft_labels(folder / "combined.jsonl", labels=["up", "down"])
    assert rows == report.rows and len(rows) == 40
    assert sum((row.majority == "up") == (row.id in ODD) for row in rows) > 30
    task = potstill.load_task(folder / "task.toml")
    assert {row.task_digest for row in rows} == {task.digest} == {potstill.load_task(folder / "plain.toml").digest}
    assert {row.teacher_digest.partition("+")[0] for row in rows} == {"d" * 64}


def test_one_source_alone_says_what_it_said(folder):
    report = combined(folder, CombineConfig(method="majority"), task="plain.toml")
    alone = potstill.derive(folder / "labels.db", folder / "alone.jsonl", potstill.DeriveConfig(refine="off"))
    assert names(report) == [("teacher", "teacher")]
    for row, other in zip(report.rows, alone.rows, strict=True):
        assert row.probs == pytest.approx(other.probs) and row.id == other.id


def test_every_kind_of_source_can_vote_and_one_may_know_a_part_of_the_texts(folder):
    (folder / "functions.py").write_text("def digits(text):\n    return 'up' if text.endswith('7 says buy') else None\n")
    (folder / "other.jsonl").write_text('{"id": "t1", "label": "up"}\n{"id": "t2", "label": null}\n')
    second = folder / "second"
    second.mkdir()
    write_store(second / "labels.db", folder / "plain.toml", TEXTS[:20], seed=1)
    with Journal.open(folder / "labels.db") as journal:
        for number, (person, text_id, label) in enumerate([("ann", "t1", "up"), ("bob", "t1", "down"), ("ann", "t2", None)]):
            skipped = label is None
            journal.add(
                [HumanDecision(entry=f"e{number}", text_id=text_id, person=person, labels=label, skipped=skipped, mode="random")]
            )
    report = combined(
        folder,
        answers=(f"tool={folder}/other.jsonl",),
        stores=(str(second / "labels.db"), f"again={folder}/labels.db@1"),
        functions=str(folder / "functions.py"),
        people=True,
    )
    assert names(report) == [
        ("teacher", "teacher"), ("second", "teacher"), ("again", "teacher"), ("odd", "rule"), ("even", "rule"),
        ("digits", "function"), ("tool", "answers"), ("person ann", "people"), ("person bob", "people"),
    ]  # fmt: skip
    coverage = {source.name: round(source.coverage * 40) for source in report.sources}
    assert coverage == {
        "teacher": 40,
        "second": 20,
        "again": 40,
        "odd": 20,
        "even": 20,
        "digits": 4,
        "tool": 1,
        "person ann": 1,
        "person bob": 1,
    }
    without = combined(folder, CombineConfig(without=("again", "even")), stores=(f"again={folder}/labels.db@1",))
    assert names(without) == [("teacher", "teacher"), ("odd", "rule")]


def test_what_a_person_says_counts_more_than_a_teacher(folder):
    alone = {row.id: row for row in combined(folder, task="plain.toml").rows}
    text_id = max(alone, key=lambda one: alone[one].probs["up"])
    with Journal.open(folder / "labels.db") as journal:
        journal.add([HumanDecision(entry="e", text_id=text_id, person="ann", labels="down", mode="random")])
    row = next(row for row in combined(folder, task="plain.toml", people=True).rows if row.id == text_id)
    assert row.probs["down"] > 0.5


def test_prototypes_are_the_worked_examples_or_a_file(folder, minilm):
    report = combined(folder, prototypes="examples")
    assert ("prototypes", "prototypes") in names(report)
    (folder / "few.jsonl").write_text('{"text": "up up", "gold": "up"}\n')
    with pytest.raises(UserError, match="^prototypes need examples of every label, and 'down' has none; add one to the task$"):
        combined(folder, prototypes=str(folder / "few.jsonl"))


SEVERAL = """
format = 2
name = "t"
[[questions]]
name = "way"
question = "Up?"
kind = "yesno"
"""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"stores": ("{folder}/labels.db@7",)},
            "{folder}/labels.db: has no run 7; it has 1",
        ),
        ({"answers": ("{folder}/none.jsonl",)}, "{folder}/none.jsonl: no such file; check the path"),
        ({"functions": "{folder}/none.py"}, "{folder}/none.py: no such file; name a Python file with labelling functions"),
        (
            {"people": True},
            "{folder}/labels.db: nobody has decided anything; label texts with: potstill review {folder}/labels.db --task TASK",
        ),
        (
            {"gold": "{folder}/strange.jsonl"},
            "{folder}/strange.jsonl: has none of the 40 texts; give gold labels of texts that were labelled",
        ),
        ({"answers": ("odd={folder}/one.jsonl",)}, "two sources are named 'odd'; give one of them another name: NAME=FILE"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_line(folder, changes, problem):
    (folder / "strange.jsonl").write_text('{"text": "strange", "gold": "up"}\n')
    (folder / "one.jsonl").write_text('{"id": "t1", "label": "up"}\n')
    filled = {
        key: tuple(one.format(folder=folder) for one in value) if isinstance(value, tuple) else value
        for key, value in changes.items()
    }
    filled = {key: value.format(folder=folder) if isinstance(value, str) else value for key, value in filled.items()}
    with pytest.raises(UserError) as caught:
        combined(folder, **filled)
    assert str(caught.value) == problem.format(folder=folder)
    assert not (folder / "combined.jsonl").exists()


def test_a_task_of_several_questions_or_of_other_labels_is_refused_with_a_way_out(folder):
    (folder / "several.toml").write_text(SEVERAL)
    with pytest.raises(UserError) as caught:
        combined(folder, task="several.toml")
    assert str(caught.value) == (
        "potstill labels combine takes a task of one choice, and this one asks way (yesno); write that question into a file of its own"
    )
    (folder / "other.toml").write_text((SMALL_TASK + RULES).replace('"down"', '"flat"'))
    with pytest.raises(FormatError) as caught:
        combined(folder, task="other.toml")
    assert str(caught.value) == (
        f"{folder}/other.toml: labels: are up, flat; those of run 1 of {folder}/labels.db are up, down: give the task of that run"
    )


def test_the_console_prints_tables_or_one_object(folder, console):
    command = [
        *console,
        "labels",
        "combine",
        "task.toml",
        "labels.db",
        "combined.parquet",
        "--gold",
        "gold.jsonl",
        "--refine",
        "off",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("40 texts, 3 sources; the labels' shares: up ")
    assert lines[-1] == "wrote 40 soft labels to combined.parquet (dawid-skene(3 sources))"
    assert any(line.startswith("odd      rule       up        50.0%    50.0%") for line in lines)
    done = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert [source["name"] for source in found["sources"]] == ["teacher", "odd", "even"] and found["scores"]["n_gold"] == 40
