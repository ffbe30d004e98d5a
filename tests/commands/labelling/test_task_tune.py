"""`potstill task tune` at the console: the table, the winner's file, and the options that say the same."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from potstill.commands.labelling import label
from potstill.commands.labelling.task_tune import label_options
from potstill.commands.main import run as console
from potstill.commands.options.configs import config_of
from potstill.commands.options.teacher import teacher_config
from potstill.contract.project import load_project
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.tuning.comparison import Trial
from potstill.labeler.tuning.report import tuned_settings, tuned_toml
from potstill.labeler.tuning.score_file import read_scores
from potstill.workflows import pipeline

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples" / "market_stance"

WINNERS = [
    (LabelConfig("direct", n_paths=4, guideline=False), DeriveConfig()),
    (LabelConfig("cot", n_paths=2, template="chat", seed=3), DeriveConfig(method="affine")),
    (LabelConfig("cascade", examples="given", n_examples_per_label=1), DeriveConfig(weighting="agreement")),
    (LabelConfig("direct", examples="nearest"), DeriveConfig(smooth=10, backbone='some "odd"\\folder ü')),
    (LabelConfig("direct", examples="nearest"), DeriveConfig(backbone="elsewhere")),
]


@pytest.mark.parametrize(("config", "derive"), WINNERS)
def test_the_winner_is_the_same_in_a_project_and_as_options(tmp_path: Path, monkeypatch, config, derive):
    monkeypatch.setattr("potstill.labeler.aggregation.config.find_backbone", lambda name: None)  # it is only looked for, not used
    settings = tuned_settings(Trial("g", "n", config, derive, None, [], None, None)) | {"pack": "Q4_0"}
    for name in ("task.toml", "texts.jsonl", "gold.jsonl"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    project = tmp_path / "project.toml"
    project.write_text("format = 1\n" + tuned_toml(settings, ["one remark", "another"]))
    assert load_project(project).label == settings
    plan = pipeline._label_plan(project, load_project(project))
    assert (plan.config, plan.derive, plan.teacher.pack) == (config, derive, "Q4_0")

    words = label_options(settings, "a teacher.gguf", Path("my gold.jsonl"))
    context = label.command.make_context(
        "label", ["task.toml", "texts.jsonl", "out", *shlex.split(words)], help_option_names=["-h", "--help"]
    )
    options = context.params
    assert (config_of(LabelConfig, options), config_of(DeriveConfig, options)) == (config, derive)
    assert teacher_config(options) == TeacherConfig("a teacher.gguf", pack="Q4_0")
    assert context.params["gold"] == (Path("my gold.jsonl") if derive.method == "affine" else None)


def test_every_setting_that_is_compared_is_written_down():
    written = tuned_settings(Trial("g", "n", LabelConfig("cascade"), DeriveConfig(), None, [], None, None))
    names = {field.name for kind in (LabelConfig, DeriveConfig) for field in fields(kind)}
    assert set(written) <= names
    assert set(written) >= {"mode", "n_paths", "template", "guideline", "examples", "method", "weighting", "smooth"}


def few(folder: Path, n_per_label: int) -> Path:
    """So many gold texts of each label."""
    texts = {"bullish": "up {}%, love it", "bearish": "down {}%, sold", "neutral": "which day? {}"}
    rows = [{"text": text.format(i), "gold": name} for i in range(n_per_label) for name, text in texts.items()]
    file = folder / "gold.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_teacher_is_tuned_and_called_again_is_asked_nothing(tiny_models, tmp_path: Path, capsys, monkeypatch):
    task, file, out = tmp_path / "task.toml", few(tmp_path, 7), tmp_path / "out"
    text = (EXAMPLE / "task.toml").read_text()
    task.write_text(re.sub(r'guideline = """.*?"""', 'guideline = ""', text.partition("[[knowledge]]")[0], flags=re.S))
    command = ["task", "tune", str(task), str(file), str(out), "--template", "plain", "--examples", "diverse", "--no-cot"]
    command += ["--examples-per-label", "1", "--backbone", "none", "--threads", "2", "--parallel", "24"]
    command += ["--teacher", str(tiny_models["dense"])]
    assert console(command) == 0
    first = capsys.readouterr()
    assert [line for line in first.err.splitlines() if line.startswith("trying")] == [
        "trying 1 of 2: plain, guideline, diverse, 2 direct answers",
        "trying 2 of 2: plain, guideline, diverse, 8 direct answers",
    ]
    lines = first.out.splitlines()
    assert "21 gold texts, with 95 % intervals; the column `choice` is macro-F1 on the 11 texts that select," in lines
    assert lines[-2] == f"wrote {out}/tuned.toml, a table for project.toml; as options of potstill label:"
    assert lines[-1].startswith(f"  --teacher {tiny_models['dense']} --mode direct --paths ")
    found = read_scores(out)
    assert found.chosen in [way.settings for way in found.ways]
    assert all(0 <= way.macro_f1.low <= way.macro_f1.value <= way.macro_f1.high <= 1 for way in found.ways)
    assert (
        (out / "tuned.toml")
        .read_text()
        .startswith(
            "# The [label] table of a project.toml, chosen by: potstill task tune\n"
            f"# teacher {tiny_models['dense']}, 21 texts of gold.jsonl: direct, "
        )
    )
    monkeypatch.setattr("potstill.labeler.teachers.local.LocalTeacher.answer", None)  # it must not be asked
    assert console(command) == 0
    assert capsys.readouterr().out == first.out


@pytest.mark.parametrize(
    ("n", "message"),
    [(6, "holds 18 usable texts with gold; tuning needs at least 20: label more by hand")],
)
def test_too_little_gold_is_told_before_a_model_is_loaded(tmp_path: Path, capsys, monkeypatch, n, message):
    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", None)
    file = few(tmp_path, n)
    assert console(["task", "tune", str(EXAMPLE / "task.toml"), str(file), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"potstill: {file}: {message}\n"
    assert not (tmp_path / "out").exists()
