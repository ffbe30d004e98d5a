"""What the report finds of each stage in a project's folder."""

import json
import math
from dataclasses import replace

import msgspec
import pytest
from support.tiny_bundle import write_bundle
from support.tiny_checkpoint import write_checkpoint
from support.toy_task import LABELS, gold_texts, soft_label, write_gold

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.project import StageRecord
from potstill.contract.soft_label import read_soft_labels, write_soft_labels
from potstill.contract.task import task_from_json
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import prompt_variants, prompts_digest
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import TeacherPath
from potstill.workflows.overview.reporting import ReportFiles
from potstill.workflows.overview.stages import PLAIN, map_of, stages_of

pytestmark = pytest.mark.slow
CONFIG = LabelConfig(mode="direct", n_paths=3, n_variants=3, n_examples_per_label=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "student"
    folder.mkdir()
    write_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    (folder / "config.json").write_text(json.dumps({**config, **names}))
    return folder


@pytest.fixture(scope="module")
def task(checkpoint):
    return task_from_json(checkpoint / "task.json", (checkpoint / "task.json").read_bytes())


def settings_of(task, **changes):
    words = [word for label in task.labels for word in label.spellings]
    values = {
        "task_digest": task.digest, "prompt_digest": prompts_digest(prompt_variants(task, CONFIG, PLAIN)), "labels": task.label_names,
        "words": words, "word_labels": [0, 1, 2], "teacher": "small", "teacher_digest": "t", "source_digest": "s", "build": "b",
        "mode": "direct", "n_variants": 3, "temperature": 0.5, "max_rationale_tokens": 40, "seed": 0,
    }  # fmt: skip
    return RunSettings(**values | changes)


def fill(folder, settings, task):
    """A store of 20 texts, half of them gold, of which `up` is preferred; their soft labels; and a record of the stages."""
    rows = [soft_label(f"the price will rise {i}", LABELS[i % 3], task, votes=6 + i % 3) for i in range(20)]
    with LabelStore.create(folder / "labels.db") as store:
        store.add_texts([Text(row.text, row.id, None, row.majority if i % 2 else None) for i, row in enumerate(rows)])
        run = store.begin_run(settings)
        probs = [(0.6, 0.3, 0.1), (0.5, 0.4, 0.1), (0.5, 0.1, 0.4)]
        store.add(
            run,
            [
                TeacherPath(row.id, v, v, v, "", tuple(map(math.log, probs[(i + v) % 3])), 40, 0)
                for i, row in enumerate(rows)
                for v in range(3)
            ],
        )
    write_soft_labels(folder / "soft_labels.parquet", rows)
    records = {name: StageRecord("i", {}, seconds) for name, seconds in (("label", 60.0), ("train", 5.0), ("export", 7.0))}
    (folder / "state.json").write_bytes(msgspec.json.encode(records))
    return folder


FORM = {
    "variant": "float",
    "ms_p50": 2.0,
    "bytes": 5_000_000,
    "macro_f1": 0.5,
    "agreement": 1.0,
    "flips": 0,
    "n": 60,
    "problem": "",
}


@pytest.fixture
def folder(tmp_path, task):
    fill(tmp_path, settings_of(task), task)
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "quality.json").write_text(
        json.dumps({"cpu": "a CPU", "forms": [FORM, {**FORM, "variant": "static_int8", "problem": "too far off"}]})
    )
    return tmp_path


def test_every_stage_is_there_with_its_time(folder, checkpoint):
    found = stages_of(folder, checkpoint, read_student(checkpoint), folder / "bundle")
    assert [stage.seconds for stage in (found.labelling, found.training, found.export)] == [60.0, 5.0, 7.0]
    (line,) = found.labelling.cost
    assert (line.teacher, line.mode, line.n_texts, line.paths_per_text, line.prompt_tokens_per_text) == (
        "small",
        "direct",
        20,
        3.0,
        120.0,
    )
    votes, calibrated = (next(line for line in found.labelling.methods if line.name == name) for name in ("votes", "calibrated"))
    assert votes.shares["up"] == 1.0 > calibrated.shares["up"]
    assert sum(found.labelling.gold_shares.values()) == pytest.approx(1)
    assert [one.n for one in found.labelling.examples] == [7, 7, 6]
    assert (found.training.n, sum(line.n_teacher for line in found.training.labels)) == (40, 40)
    assert [(form.variant, form.shipped, form.verdict) for form in found.export.forms] == [("float", True, "passed"), ("static_int8", False, "too far off")]  # fmt: skip


def test_the_prompt_is_the_one_that_was_sent_or_is_not_shown(folder, checkpoint, task, tmp_path):
    stage = stages_of(folder, checkpoint, read_student(checkpoint), None).labelling
    made = prompt_variants(task, CONFIG, PLAIN)[0]
    assert stage.prompt.startswith(made.prefix) and "the price will rise" in stage.prompt
    for number, changes in enumerate(({"prompt_digest": "other"}, {"template": "chat"})):
        other = tmp_path / f"other{number}"
        other.mkdir()
        fill(other, settings_of(task, **changes), task)
        stage = stages_of(other, checkpoint, read_student(checkpoint), None).labelling
        assert stage.prompt == "" and stage.prompt_note.endswith("potstill task show TASK TEXT --teacher TEACHER prints it.")


def test_a_store_of_another_task_is_refused(tmp_path, checkpoint, task):
    fill(tmp_path, settings_of(task, task_digest="x"), task)
    with pytest.raises(UserError, match=r"labels.db: holds no run of the student's task; name the folder that it was labelled in"):
        stages_of(tmp_path, checkpoint, read_student(checkpoint), None)


def test_a_record_of_forms_that_lacks_a_figure_is_refused(folder, checkpoint):
    (folder / "bundle" / "quality.json").write_text(json.dumps({"forms": [{"variant": "float"}]}))
    with pytest.raises(FormatError, match=r"quality.json: forms: lacks 'ms_p50'; export the bundle again"):
        stages_of(folder, checkpoint, read_student(checkpoint), folder / "bundle")


def test_a_map_takes_gold_texts_first_and_spreads_the_rest_over_the_file(checkpoint, folder):
    student, rows = read_student(checkpoint), read_soft_labels(folder / "soft_labels.parquet")
    student = msgspec.structs.replace(student, backbone=str(checkpoint))
    gold = gold_texts(12)
    drawn, note = map_of(checkpoint, student, gold, rows, most=len(gold) + 4)
    assert note == "" and drawn.n_gold == len(gold)
    assert [point.text.text for point in drawn.points[len(gold) :]] == [rows[i].text for i in (0, 5, 10, 15)]
    assert [point.teacher for point in drawn.points[len(gold) :]] == [rows[i].majority for i in (0, 5, 10, 15)]
    known = [Text(row.text, row.id, None, "up") for row in rows[:10]]
    assert [point.text.text for point in map_of(checkpoint, student, known, rows, most=15)[0].points[10:]] == [
        row.text for row in rows[10::2]
    ]
    assert map_of(checkpoint, student, gold, rows, most=0) == (None, "")
    assert map_of(checkpoint, student, gold[:3], [], most=100) == (None, "A map needs at least 10 texts.")
    lost = msgspec.structs.replace(student, backbone="nowhere")
    assert map_of(checkpoint, lost, gold, rows, most=100)[1] == "Without the backbone (nowhere) there is no map of the texts."


def test_files_of_the_folder_stand_in_for_those_that_are_not_named(folder, tmp_path):
    found = ReportFiles(run=folder, store="mine.db").found()
    assert (found.bundle, found.soft_labels, found.store, found.teacher) == (
        folder / "bundle",
        folder / "soft_labels.parquet",
        "mine.db",
        None,
    )
    assert ReportFiles(bundle="b").found() == ReportFiles(bundle="b")
    with pytest.raises(FormatError, match="none: is no folder; name one of potstill run or potstill label"):
        replace(ReportFiles(), run=tmp_path / "none").found()


def test_the_command_writes_all_of_it_into_one_page(folder, checkpoint, tmp_path, capsys):
    (folder / "bundle").rename(folder / "elsewhere")  # of another student
    write_gold(tmp_path / "gold.jsonl", gold_texts(30))
    page = tmp_path / "report.html"
    assert console(["report", str(checkpoint), str(tmp_path / "gold.jsonl"), "--run", str(folder), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    html = page.read_text()
    assert 'id="labelling"' in html and 'id="training"' in html and 'id="export"' not in html
    assert "Without the backbone (tiny) there is no map of the texts." in html
