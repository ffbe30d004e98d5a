"""`potstill status`: it says where things stand, and leaves no trace."""

import json
import os
import sqlite3
import subprocess
import sys
import time

import msgspec
import pytest
from support.tiny_bundle import some_heads, write_bundle
from support.tiny_checkpoint import write_checkpoint

from potstill.commands.main import run as console
from potstill.contract.errors import FormatError
from potstill.contract.project import StageRecord
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.store.quick_figures import store_figures
from potstill.labeler.teacher import TeacherPath
from potstill.workflows.overview.status import status_of

SETTINGS = RunSettings(
    task_digest="d", prompt_digest="p", labels=["up", "down"], words=["up", "down"], word_labels=[0, 1], teacher="small",
    teacher_digest="t", source_digest="s", build="b", mode="cot", n_variants=2, temperature=1.0, max_rationale_tokens=20, seed=0,
)  # fmt: skip


def fill(store, n_texts=5, n_paths=4, first=0):
    """Texts with paths of one run, and a gold label on the first."""
    texts = [Text(f"text {i}", f"t{i:05}", None, None if i else "up") for i in range(first, first + n_texts)]
    store.add_texts(texts)
    run = store.begin_run(SETTINGS)
    store.add(run, [TeacherPath(text.id, p, p % 2, p, "because", (-0.1, -2.0), 10, 3) for text in texts for p in range(n_paths)])


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with LabelStore.create(folder / "labels.db") as store:
        fill(store)
    return folder


def files(folder):
    """Every file with its bytes and times."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_stopped_labelling_is_counted_and_the_command_that_goes_on_is_named(labels):
    found = status_of(labels)
    (stage,) = found.stages
    assert (found.what, stage.state) == ("label folder", "unfinished")
    assert stage.lines == [
        "5 texts, 1 with gold; 20 paths of 1 run",
        "run 1: small, mode cot; 5 texts, 20 paths, 200 prompt and 60 generated tokens",
        "there is no soft_labels.parquet yet",
    ]
    assert found.next == f"potstill label TASK TEXTS {labels} (the same command as before goes on from here)"


def test_a_finished_one_goes_on_to_training(labels):
    (labels / "soft_labels.parquet").write_bytes(b"")
    found = status_of(labels / "labels.db")
    assert found.stages[0].state == "done"
    assert found.next == f"potstill train TASK {labels / 'soft_labels.parquet'} STUDENT"
    os.utime(labels / "soft_labels.parquet", (1, 1))
    found = status_of(labels)
    assert "labels.db is newer than soft_labels.parquet" in found.stages[0].lines
    assert found.next == f"potstill labels derive {labels / 'labels.db'} {labels / 'soft_labels.parquet'}"


def test_nothing_is_written_and_nothing_appears(labels):
    before = files(labels)
    status_of(labels)
    assert files(labels) == before


def test_a_store_that_is_being_written_is_read_with_its_newest_paths_and_its_writer_keeps_the_lock(labels):
    with LabelStore.create(labels / "labels.db") as store:
        fill(store, n_texts=2, first=5)
        found = store_figures(labels / "labels.db")
        assert (found.n_texts, found.n_paths, found.is_written) == (7, 28, True)
        assert status_of(labels).stages[0].state == "going on"
        child = f"from pathlib import Path\nfrom potstill.labeler.store.database import LabelStore\nLabelStore.create(Path({str(labels / 'labels.db')!r}))"
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
        assert "another process is writing to it" in done.stderr
    assert not store_figures(labels / "labels.db").is_written


def test_where_counting_takes_too_long_the_number_is_estimated(tmp_path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        fill(store, n_texts=400, n_paths=20)
    found = store_figures(tmp_path / "labels.db", counting_s=0.0)
    assert not found.exact and 0.5 < found.n_paths / 8000 < 2
    assert store_figures(tmp_path / "labels.db", counting_s=0.0) == found  # two looks say the same
    with LabelStore.read(tmp_path / "labels.db") as store:
        (run,) = store.runs()
        paths = list(store.paths(run))
    (figures,) = store_figures(tmp_path / "labels.db", counting_s=60.0).runs
    assert (figures.n_texts, figures.n_paths) == (400, len(paths)) == (400, 8000)
    assert figures.n_prompt_tokens == sum(path.n_prompt_tokens for path in paths)
    assert figures.n_generated == sum(path.n_generated for path in paths)


def test_a_checkpoint_and_the_work_beside_it(tmp_path):
    checkpoint = tmp_path / "student"
    checkpoint.mkdir()
    write_checkpoint(checkpoint)
    found = status_of(checkpoint)
    assert (found.what, found.stages[0].state, found.next) == ("checkpoint", "done", f"potstill export {checkpoint} BUNDLE")
    assert found.stages[0].lines[0] == "encoder from tiny, loss reg; 60 texts, 40 held out"
    (tmp_path / "new.partial" / "student" / "checkpoint-120").mkdir(parents=True)
    (tmp_path / "new.partial" / "lock").touch()
    found = status_of(tmp_path / "new")
    assert (found.stages[0].state, found.stages[0].lines) == ("unfinished", ["saved at step 120"])
    assert found.next.startswith("potstill train TASK SOFT_LABELS ")


def test_a_training_that_goes_on_is_seen_by_its_lock(tmp_path):
    (tmp_path / "new.partial").mkdir()
    holder = f"import fcntl, time\nf = open({str(tmp_path / 'new.partial' / 'lock')!r}, 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        assert status_of(tmp_path / "new").stages[0].state == "going on"
    finally:
        child.kill()
        child.communicate()
    assert status_of(tmp_path / "new").stages[0].state == "unfinished"


def test_a_bundle_of_each_kind(tmp_path):
    bundle = write_bundle(tmp_path / "one")
    found = status_of(bundle)
    assert (found.what, found.next) == ("bundle", f"potstill serve {bundle}")
    assert found.stages[0].lines[0].endswith("MB, labels up, flat, down")
    assert "move/up" in status_of(write_bundle(tmp_path / "several", heads=some_heads())).stages[0].lines[0]


@pytest.fixture
def project(labels):
    """A project of which labelling is finished."""
    (labels.parent / "project.toml").write_text('format = 1\nout = "out"\n')
    (labels / "soft_labels.parquet").write_bytes(b"")
    (labels / "state.json").write_bytes(msgspec.json.encode({"label": StageRecord("i", {}, 3725.0)}))
    return labels.parent


def test_a_project_shows_all_stages_with_their_times(project):
    for place in (project, project / "project.toml", project / "out"):
        found = status_of(place)
        assert [(stage.name, stage.state, stage.seconds) for stage in found.stages] == [
            ("labelling", "done", 3725.0), ("training", "not begun", None), ("export", "not begun", None),
        ]  # fmt: skip
        assert found.next == f"potstill run {project / 'project.toml'}"
    assert "labelling  done, took 1 h 02 min" in found.as_text()


def test_a_finished_project_is_served_or_run_again_where_a_file_changed(project):
    write_bundle(project / "out" / "bundle")
    (project / "out" / "student").mkdir()
    write_checkpoint(project / "out" / "student")
    assert status_of(project).next == f"potstill serve {project / 'out' / 'bundle'}"
    (project / "task.toml").write_text("")
    os.utime(project / "task.toml", (time.time() + 60, time.time() + 60))
    found = status_of(project)
    assert found.next == f"potstill run {project / 'project.toml'}"
    assert found.notes == ["task.toml changed since; what has to be done again is found by the same command"]


def test_a_damaged_record_of_stages_is_as_none(project):
    (project / "out" / "state.json").write_bytes(b"{")
    assert status_of(project).stages[0].seconds is None


def test_the_command_prints_lines_or_json(labels, capsys):
    assert console(["status", str(labels)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{labels}: label folder" and lines[1] == "labelling  stopped" and lines[-1].startswith("next: ")
    assert console(["status", str(labels), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["state"] == "unfinished"


def test_what_is_none_of_these_is_refused(tmp_path):
    with pytest.raises(
        FormatError, match="is no project, label folder, checkpoint or bundle: it has none of project.toml, state.json"
    ):
        status_of(tmp_path)
    with pytest.raises(FormatError, match="none: no such file or folder; check the path"):
        status_of(tmp_path / "none")
    (tmp_path / "x.db").write_bytes(b"hello" * 2000)
    with pytest.raises(FormatError, match="x.db: is damaged or not a label store"):
        status_of(tmp_path / "x.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(FormatError, match="empty.db: is not a label store of format 1"):
        status_of(tmp_path / "empty.db")


def test_no_heavy_library_is_loaded(labels):
    code = f"import sys\nfrom potstill.commands.main import run\nrun(['status', {str(labels)!r}])\nprint([name for name in ('numpy', 'torch', 'pyarrow', 'onnxruntime', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
