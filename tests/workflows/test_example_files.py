"""The files that people start from are sound, and say what holds by default."""

import tomllib

import pytest

from potstill.contract.errors import UserError
from potstill.contract.project import Project, load_project
from potstill.contract.task import load_task
from potstill.contract.texts import read_texts
from potstill.export.config import ExportConfig
from potstill.labeler.config import LabelConfig
from potstill.trainer.config import TrainConfig
from potstill.workflows import pipeline
from potstill.workflows.example_files import example_folder, write_demo_project, write_templates


def test_the_templates_are_sound_and_hold_the_defaults_of_the_configurations(tmp_path):
    assert write_templates(tmp_path) == ["project.toml", "task.toml", "texts.jsonl"]
    load_task(tmp_path / "task.toml")
    read_texts(tmp_path / "texts.jsonl")
    project = load_project(tmp_path / "project.toml")
    assert project.teacher == Project(format=1).teacher
    for table, config in ((project.label, LabelConfig()), (project.train, TrainConfig()), (project.export, ExportConfig())):
        assert table == {name: getattr(config, name) for name in table}
    assert {"mode", "n_paths"} <= set(project.label) and "loss" in project.train


def test_a_project_that_leaves_the_mode_to_the_teacher_runs_in_its_best_known_mode(tmp_path):
    write_templates(tmp_path)
    plan = pipeline._label_plan(tmp_path / "project.toml", load_project(tmp_path / "project.toml"))
    assert plan.config == LabelConfig("direct")
    assert plan.mode_note == (
        "mode direct: the best one measured for smollm2-135m-instruct; "
        "choose another with --mode, or compare them with: potstill task tune"
    )


def test_templates_overwrite_nothing(tmp_path):
    (tmp_path / "task.toml").write_text("mine")
    with pytest.raises(UserError, match="is already there; choose another folder, or move it away first"):
        write_templates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["task.toml"]


def test_the_demo_project_names_its_own_files(tmp_path):
    project = write_demo_project(tmp_path)
    settings = tomllib.loads(project.read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"project.toml", *(settings[key] for key in ("task", "texts", "gold"))}
    assert (tmp_path / "gold.jsonl").read_bytes() == (example_folder("market_stance") / "gold.jsonl").read_bytes()
