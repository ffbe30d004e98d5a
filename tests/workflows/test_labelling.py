"""What is checked before a teacher is loaded, and which mode is taken where none is named."""

import gzip
import json
from dataclasses import replace

import fsspec
import pytest
from support.small_task import SMALL_TASK

from potstill.contract.errors import FormatError, UserError
from potstill.contract.project import load_project
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import AUTO, LabelConfig, LocalConfig, with_mode
from potstill.labeler.teachers.config import TeacherConfig, with_best_mode
from potstill.models.catalog import best_mode, load_catalog
from potstill.workflows import labelling, pipeline
from potstill.workflows.labelling import plan_labelling
from potstill.workflows.teacher import _local_config


@pytest.fixture
def files(tmp_path):
    """Paths as strings: a task, two texts."""
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    (tmp_path / "texts.jsonl").write_text('{"text": "one", "id": "1"}\n{"text": "two", "id": "2"}\n')
    return str(tmp_path / "task.toml"), str(tmp_path / "texts.jsonl")


def test_a_file_is_no_folder_to_write_into(files):
    with pytest.raises(UserError, match="texts.jsonl: is a file; name a folder"):
        labelling.label_plan(plan_labelling(*files), files[1])


def test_texts_lie_at_an_address_or_in_a_folder(files, tmp_path):
    rows = [{"text": f"text {i}", "id": str(i)} for i in range(30_000)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text("".join(lines[:1]))
    (tmp_path / "d" / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[1:3]).encode()))
    wanted = [("text 0", "0"), ("text 1", "1"), ("text 2", "2")]
    there = fsspec.filesystem("memory")
    for name in ("a.jsonl", "b.jsonl.gz"):
        there.pipe_file(f"/posts/{name}", (tmp_path / "d" / name).read_bytes())
    for place in (tmp_path / "d", "memory://posts"):
        plan = plan_labelling(files[0], place)
        assert [(text.text, text.id) for text in plan.all_texts] == wanted

    there.pipe_file("/broken/c.jsonl", b"".join([*(line.encode().rjust(200) for line in lines), b'{"text": 3}\n']))  # two units
    with pytest.raises(FormatError, match=r"c\.jsonl: line 30001: text: "):
        plan_labelling(files[0], "memory://broken/c.jsonl")
    with pytest.raises(FormatError, match="no such file or folder"):
        plan_labelling(files[0], "memory://absent")
    with pytest.raises(UserError, match="nowhere://x: Protocol not known: nowhere"):
        plan_labelling(files[0], "nowhere://x")


@pytest.mark.parametrize(
    ("teacher", "mode", "note"),
    [
        ("smollm2-135m-instruct", "direct", "mode direct: the best one measured for smollm2-135m-instruct; choose "),
        ("qwen2.5-7b-instruct", "cot", "mode cot: no mode has been measured for qwen2.5-7b-instruct; choose "),
        ("some/file.gguf", "cot", "mode cot: no mode has been measured for some/file.gguf; choose "),
        ("http://127.0.0.1:9/v1", "cot", "mode cot: no mode has been measured for http://127.0.0.1:9/v1; choose "),
    ],
)
def test_without_a_mode_the_teacher_s_best_known_one_is_taken_else_that_of_the_paper(files, teacher, mode, note):
    plan = plan_labelling(*files, teacher=TeacherConfig(teacher))
    assert plan.config == LabelConfig(mode)
    assert plan.mode_note.startswith(note)


@pytest.mark.parametrize("mode", ["cot", "direct", "cascade"])
def test_a_mode_that_is_named_is_taken_without_a_word(mode):
    assert with_best_mode(LabelConfig(mode), "smollm2-135m-instruct") == (LabelConfig(mode), "")
    assert with_mode(LabelConfig(mode), "direct") == LabelConfig(mode)


def test_only_measured_teachers_of_the_catalog_have_a_mode():
    assert {name: entry.mode for name, entry in load_catalog().items() if entry.mode} == {"smollm2-135m-instruct": "direct"}
    assert best_mode("no such teacher") is None


def test_the_stored_settings_hold_the_mode_that_was_used(files, ruled_teacher, tmp_path, monkeypatch):
    teacher = ruled_teacher(lambda prompt, path: (-0.1, -2.4))
    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", lambda name, **options: teacher)
    told = []
    report = labelling.label(*files, tmp_path / "out", replace(LabelConfig(), n_paths=2), tell=told.append)
    assert LabelConfig().mode == AUTO and report.labels.run.settings.mode == "direct"
    assert told[0].startswith("mode direct: ")
    assert (report.labels.n_paths, len(report.rows), report.out) == (4, 2, tmp_path / "out")


def test_a_text_that_is_both_trained_on_and_scored_with_is_refused(files, tmp_path):
    (tmp_path / "gold.jsonl").write_text(json.dumps({"text": "two", "id": "other", "gold": "up"}))
    with pytest.raises(FormatError) as caught:
        plan_labelling(*files, gold=str(tmp_path / "gold.jsonl"))
    assert str(caught.value) == f"{tmp_path}/gold.jsonl: shares 1 text with {files[1]} ('two', say); remove them from one file"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: {"config": LabelConfig(n_paths=0)}, "paths is 0; it must be at least 1"),
        (lambda: {"config": LabelConfig("wild")}, "mode is 'wild'; allowed: auto, cot, direct, cascade"),
        (lambda: {"derive": DeriveConfig(method="best")}, "method is 'best'; allowed: calibrated, "),
        (lambda: {"teacher": TeacherConfig(pack="Q9")}, "pack is 'Q9'; allowed: auto, as-is, Q8_0, Q4_0"),
        (lambda: {"teacher": TeacherConfig(gpu_layers=-1)}, "gpu_layers is -1; it must be auto or a whole number, at least 0"),
        (
            lambda: {"teacher": TeacherConfig(gpu_layers="all")},
            "gpu_layers is 'all'; it must be auto or a whole number, at least 0",
        ),
        (lambda: {"teacher": TeacherConfig(kv_type="q4_0")}, "kv_type is 'q4_0'; allowed: f16, q8_0"),
        (lambda: {"teacher": TeacherConfig(concurrency=0)}, "concurrency is 0; it must be a whole number, at least 1"),
        (
            lambda: {"config": LabelConfig(deterministic=True), "teacher": TeacherConfig(parallel=8)},
            "a deterministic run fixes how many paths are stepped at once; leave out --parallel or --deterministic",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_a_model_is_loaded(files, settings, message):
    with pytest.raises(UserError) as caught:
        plan_labelling(*files, **settings())
    assert str(caught.value).startswith(message)


def test_a_project_says_how_much_of_the_gpu_and_which_cache_the_teacher_takes(files, tmp_path):
    project = tmp_path / "project.toml"
    project.write_text('format = 1\n[label]\ngpu_layers = 20\nkv_type = "q8_0"\nthreads = 3\n')
    teacher = pipeline._label_plan(project, load_project(project)).teacher
    assert (teacher.gpu_layers, teacher.kv_type, teacher.threads) == (20, "q8_0", 3)
    assert _local_config(teacher, deterministic=False) == LocalConfig(3, n_gpu_layers=20, kv_type="q8_0")
