"""The whole chain on the real models and the real console, small: texts in, measured bundle out, nothing done twice.

What makes something runs in a process of its own; what only reads it is asked in this one, which has imported the libraries already.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from potstill.commands.main import run as ask

pytestmark = pytest.mark.slow

N_TEXTS, N_GOLD = 48, 12
PROJECT = """
format = 1
gold = "gold.jsonl"
[label]
mode = "direct"
n_paths = 2
deterministic = true # nothing is measured first
[train]
epochs = 2
max_tokens = 64
min_agreement = 0.5
"""


def potstill(console: list[str], *args: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*console, *args], cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, f"{args}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def project(repository: Path, console: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The example, cut to a few texts, run once; and what that printed."""
    folder = tmp_path_factory.mktemp("project")
    example = repository / "examples" / "market_stance"
    shutil.copy(example / "task.toml", folder)
    for name, n in (("texts.jsonl", N_TEXTS), ("gold.jsonl", N_GOLD)):
        lines = (example / name).read_text(encoding="utf-8").splitlines()[:n]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    (folder / "project.toml").write_text(PROJECT)
    return folder, potstill(console, "run", "project.toml", folder=folder).stdout


def test_a_run_ends_with_scores_of_teacher_student_and_bundle_on_the_same_gold(project):
    _, said = project
    assert f"on {N_GOLD} gold texts" in said
    for who in ("teacher", "student", "int8"):
        assert f"  {who}" in said


def test_a_second_run_does_nothing_again_and_says_so(project, monkeypatch, capsys):
    monkeypatch.chdir(project[0])
    assert ask(["run", "project.toml"]) == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if "nothing has changed" in line] == ["label", "train", "export"]


def test_a_stage_whose_output_was_damaged_runs_again_and_the_others_do_not(project, console):
    """The export neither, since the student comes out bit for bit as it was."""
    folder, _ = project
    student = folder / "out" / "student" / "student.json"
    student.write_text(student.read_text().replace('"seed": 0', '"seed": 1'))
    said = potstill(console, "run", "project.toml", folder=folder).stdout
    assert [line.split(":")[0] for line in said.splitlines() if "nothing has changed" in line] == ["label", "export"]
    assert '"seed": 0' in student.read_text()


def test_predict_answers_every_text_in_order(project, console):
    folder, _ = project
    lines = potstill(console, "predict", "out/bundle", "texts.jsonl", folder=folder).stdout.splitlines()
    ids = [json.loads(line)["id"] for line in (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [json.loads(line)["id"] for line in lines] == ids
    assert all(abs(sum(json.loads(line)["probs"].values()) - 1) < 1e-5 for line in lines)


def test_gold_texts_are_labelled_but_not_trained_on(project):
    folder, _ = project
    student = json.loads((folder / "out" / "student" / "student.json").read_text())
    assert student["n_train"] + student["n_validation"] <= N_TEXTS
    assert (folder / "out" / "gold_labels.parquet").is_file()


def test_the_summary_compares_the_methods_on_gold(project, console):
    folder, _ = project
    said = potstill(console, "labels", "summary", "out/labels.db", folder=folder).stdout
    scores = said.partition(f"on {N_GOLD} gold texts, with 95 % intervals\n")[2].partition("\n\n")[0]
    for method in ("calibrated", "majority", "votes", "mean"):
        assert f"\n{method} " in scores


def test_the_store_of_the_pipeline_is_sound(project, console):
    folder, _ = project
    said = potstill(console, "labels", "check", "out/labels.db", folder=folder).stdout
    assert said.startswith(f"out/labels.db: sound; 1 run, {N_TEXTS + N_GOLD} texts\n")


def test_soft_labels_can_be_derived_again_in_another_way(project, console):
    folder, _ = project
    potstill(console, "labels", "derive", "out/labels.db", "votes.jsonl", "--method", "votes", folder=folder)
    rows = [json.loads(line) for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == N_TEXTS + N_GOLD
    assert {row["method"] for row in rows} == {"votes"}


def test_a_changed_task_is_refused_by_the_store_with_what_to_do(project, console):
    folder, _ = project
    changed = (folder / "task.toml").read_text(encoding="utf-8").replace("Does the author expect", "Does the writer expect")
    (folder / "other.toml").write_text(changed, encoding="utf-8")
    args = ("label", "other.toml", "texts.jsonl", "out", "--mode", "direct", "--paths", "2", "--deterministic")
    error = potstill(console, *args, folder=folder, code=1).stderr
    assert "was labelled with another task digest, prompt digest; use --new-run" in error


def test_evaluate_scores_the_checkpoint_on_gold(project, monkeypatch, capsys):
    monkeypatch.chdir(project[0])
    assert ask(["evaluate", "out/student", "gold.jsonl", "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["systems"]["student"]["accuracy"]["n"] == N_GOLD
