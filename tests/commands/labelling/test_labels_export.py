"""`potstill labels export`, and the way back: what people answered, as `--gold`. In this process: no model is loaded."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console
from potstill.contract.errors import FormatError
from potstill.contract.interchange.review_export import REVIEW_FORMATS
from potstill.contract.texts import Text, read_texts
from potstill.labeler.config import LabelConfig
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import TeacherPath
from potstill.workflows.labelling import plan_labelling

SETTINGS = RunSettings(
    task_digest="t", prompt_digest="p", labels=["up", "down"], words=["up", "down"], word_labels=[0, 1], teacher="smollm2",
    teacher_digest="d", source_digest="d", build="b", mode="direct", n_variants=1, temperature=0.5, max_rationale_tokens=40, seed=0,
)  # fmt: skip
P_UP = {"a": 0.9, "b": 0.5, "c": 0.3, "g": 0.6}  # g has gold
TASK = SMALL_TASK.replace("Up or down?", "Which way?").replace('guideline = ""', 'guideline = "Read twice."')
TASK = TASK.replace('meaning = "u"', 'meaning = "rises"').replace('meaning = "d"', 'meaning = "falls"')
BY_UNCERTAINTY, BY_ID = ["b", "g", "c", "a"], ["a", "b", "c", "g"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add_texts([Text(f"text {name}", name, gold="up" if name == "g" else None) for name in P_UP])
        store.add(run, [TeacherPath(name, 0, 0, 0, "", (math.log(p), math.log(1 - p)), 5, 0) for name, p in P_UP.items()])
    (tmp_path / "task.toml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def export(folder: Path, capsys: pytest.CaptureFixture[str]):
    def export(file: str, *args: str) -> Done:
        capsys.readouterr()
        return Done(console(["labels", "export", "labels.db", file, "--method", "mean", *args]), *capsys.readouterr())

    return export


def test_label_studio_gets_the_most_uncertain_first_and_a_configuration(export, folder):
    done = export("r.json", "--task", "task.toml")
    assert (
        done.out
        == "wrote 3 texts to r.json, and the project's settings to r.config.xml\nleft out 1 texts that already have a gold label\n"
    )
    assert [task["data"]["id"] for task in json.loads((folder / "r.json").read_text())] == ["b", "c", "a"]
    view = (folder / "r.config.xml").read_text()
    assert 'value="Which way?"' in view and '<Choice value="up" hint="rises"/>' in view


def test_argilla_gets_records_and_settings_and_by_id_sorts_by_id(export, folder):
    done = export("r.json", "--format", "argilla", "--by", "id")
    assert done.out.startswith("wrote 3 texts to r.json, and the project's settings to r.settings.json\n")
    rows = json.loads((folder / "r.json").read_text())
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["suggestions"]["label"] == {"value": "up", "score": pytest.approx(0.9), "agent": "smollm2 mean"}
    assert json.loads((folder / "r.settings.json").read_text())["questions"][0]["title"] == "Which label fits?"


@pytest.mark.parametrize(("by", "ids"), [("uncertainty", BY_UNCERTAINTY), ("id", BY_ID)])
def test_a_table_holds_every_text_in_the_order_asked_for(export, folder, by, ids):
    assert export("r.jsonl", "--format", "jsonl", "--by", by).out == "wrote 4 texts to r.jsonl\n"
    rows = [json.loads(line) for line in (folder / "r.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ids
    assert [row["gold"] for row in rows if row["id"] == "g"] == ["up"]


@pytest.mark.parametrize("form", REVIEW_FORMATS)
def test_every_format_writes_something(export, folder, form):
    file = {"label-studio": "r.json", "argilla": "r.json", "datasets": "r"}.get(form, f"r.{form}")
    done = export(file, "--format", form)
    assert (done.code, done.err) == (0, "") and (folder / file).exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("r.txt",), "r.txt: unknown kind '.txt'; for the format label-studio allowed: .json"),
        (("r.json", "--format", "csv"), "r.json: unknown kind '.json'; for the format csv allowed: .csv"),
        ((".", "--format", "datasets"), ".: is a folder with other files; name a new one"),
        (("r.json", "--run", "7"), "labels.db: has no run 7; it has 1"),
        (
            ("r.json", "--task", "other.toml"),
            "other.toml: labels: are up, flat; those of the run are up, down: give the task that it was labelled for",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(export, folder, args, message):
    (folder / "other.toml").write_text(TASK.replace('"down"', '"flat"'))

    def files():  # SQLite keeps files of its own beside a store that is read
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("labels.db"))

    before = files()
    done = export(*args)
    assert (done.code, done.err) == (1, f"potstill: {message}\n")
    assert files() == before


def test_a_store_of_gold_alone_leaves_nothing_to_review(export, folder):
    with LabelStore.create(folder / "labels.db") as store:
        store.add_texts([Text(f"text {name}", name, gold="up") for name in P_UP])
    assert export("r.json").err == "potstill: all 4 texts already have a gold label; there is nothing to review\n"


def annotated(folder: Path, form: str, answers: dict[str, str]) -> Path:
    """The exported file after people have answered."""
    rows = json.loads((folder / "r.json").read_text())
    for row in rows:
        if form == "argilla":
            label = answers.get(row["id"])
            row["responses"] = {"label": [{"value": label, "user_id": "u", "status": "submitted"}]} if label else {}
        elif label := answers.get(row["data"]["id"]):
            result = [{**row["predictions"][0]["result"][0], "value": {"choices": [label]}}]
            row["annotations"] = [{"id": 1, "completed_by": 1, "result": result, "was_cancelled": False}]
    (folder / "back.json").write_text(json.dumps(rows))
    return folder / "back.json"


@pytest.mark.parametrize("form", ["label-studio", "argilla"])
def test_a_half_annotated_project_is_gold_where_it_is_annotated(export, folder, form):
    export("r.json", "--format", form)
    gold = annotated(folder, form, {"a": "down", "b": "up"})
    (folder / "others.jsonl").write_text('{"text": "another"}\n')
    plan = plan_labelling("task.toml", "others.jsonl", LabelConfig("direct"), gold=gold)
    assert {text.id: text.gold for text in plan.gold.texts} == {"a": "down", "b": "up"}
    assert plan.gold.skipped_line() == "skipped 1 of 3 rows: 1 not annotated"
    assert {text.id: text.gold for text in read_texts(gold).texts} == {"a": "down", "b": "up", "c": None}


def test_a_gold_file_of_our_own_must_not_lack_gold(folder):
    (folder / "others.jsonl").write_text('{"text": "another"}\n')
    (folder / "gold.jsonl").write_text('{"text": "one", "id": "1", "gold": "up"}\n{"text": "two", "id": "2"}\n')
    with pytest.raises(FormatError) as caught:
        plan_labelling("task.toml", "others.jsonl", LabelConfig("direct"), gold="gold.jsonl")
    assert str(caught.value) == "gold.jsonl: text '2': has no gold label; add one, or move it to the texts without gold labels"
