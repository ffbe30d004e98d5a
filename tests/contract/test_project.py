"""The project file: defaults, and one line for everything that is wrong."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from potstill.contract.errors import FormatError
from potstill.contract.project import load_project, settings


@dataclass(frozen=True)
class Config:
    n_paths: int = 8
    mode: str = "direct"
    share: float = 0.5


def written(folder: Path, text: str) -> Path:
    path = folder / "project.toml"
    path.write_text(text)
    return path


def test_only_the_format_is_needed(tmp_path):
    project = load_project(written(tmp_path, "format = 1"))
    assert (project.task, project.texts, project.gold, project.out) == ("task.toml", "texts.jsonl", None, "out")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "missing required field `format`"),
        ("format = 2", "format: is 2; this version reads 1"),
        ("format = 1\nteachers = 'x'", "unknown key 'teachers' (did you mean 'teacher'?); allowed: format, task, texts"),
        ("format = 1\n[label]\n[label]", "not valid TOML"),
        ("format = 1\nlabel = 3", "label: expected `object`, got `int`"),
    ],
)
def test_a_broken_project_says_where_and_what(tmp_path, text, problem):
    with pytest.raises(FormatError) as caught:
        load_project(written(tmp_path, text))
    assert problem in str(caught.value)


def test_a_stage_s_table_overrides_the_defaults_it_names():
    assert settings(Path("p"), "label", {"n_paths": 4}, Config) == Config(n_paths=4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"paths": 4}, "p: label: unknown key 'paths' (did you mean 'n_paths'?); allowed: n_paths, mode, share"),
        ({"n_paths": "4"}, "p: label: n_paths: expected `int`, got `str`"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_refused(table, message):
    with pytest.raises(FormatError) as caught:
        settings(Path("p"), "label", table, Config)
    assert str(caught.value) == message
