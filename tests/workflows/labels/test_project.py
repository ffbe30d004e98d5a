"""`potstill run` of a project with a table `[combine]`: the student learns from the teacher and other sources together."""

import json
import shutil

import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.workflows.pipeline import run_project

pytestmark = pytest.mark.slow

PROJECT = """
format = 1
gold = "gold.jsonl"
[label]
mode = "direct"
n_paths = 1
deterministic = true # nothing is measured first
[train]
epochs = 1
max_tokens = 32
[combine]
method = "majority"
answers = ["tool=answers.jsonl"]
"""
RULE = """
[[rules]]
name = "calls"
label = "bullish"
keywords = ["calls", "call"]
"""


@pytest.fixture
def folder(repository, tmp_path):
    example = repository / "examples" / "market_stance"
    (tmp_path / "task.toml").write_text((example / "task.toml").read_text(encoding="utf-8") + RULE)
    for name, n in (("texts.jsonl", 24), ("gold.jsonl", 6)):
        lines = (example / name).read_text(encoding="utf-8").splitlines()[:n]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "project.toml").write_text(PROJECT)
    return tmp_path


def answered(folder, rows):
    """Write the answers of another tool: of these texts, each as `bearish`."""
    (folder / "answers.jsonl").write_text("".join(json.dumps({"id": row.id, "label": "bearish"}) + "\n" for row in rows))


def test_the_student_learns_from_combined_labels_and_a_changed_source_is_combined_and_trained_again(folder):
    (folder / "answers.jsonl").write_text('{"id": "nobody", "label": "bearish"}\n')
    with pytest.raises(FormatError, match="has none of the 30 texts"):
        run_project(folder / "project.toml")
    teacher = read_soft_labels(folder / "out" / "soft_labels.parquet")
    answered(folder, teacher[:5])
    said = []
    assert run_project(folder / "project.toml", said.append).skipped == ["label"]
    combined = read_soft_labels(folder / "out" / "combined_labels.parquet")
    assert {row.method for row in combined} == {"majority(3 sources)"}
    assert {row.id for row in combined} == {row.id for row in teacher}
    golden = read_soft_labels(folder / "out" / "combined_gold.parquet")
    assert len(golden) == 6 and all(row.gold for row in golden) and not any(row.gold for row in combined)
    digest = json.loads((folder / "out" / "student" / "student.json").read_text())["teacher_digest"]
    assert digest == combined[0].teacher_digest and digest.startswith(teacher[0].teacher_digest + "+")
    assert any("tool" in line for line in said)
    assert run_project(folder / "project.toml").skipped == ["label", "combine", "train", "export"]
    answered(folder, teacher[:9])
    assert run_project(folder / "project.toml").skipped == ["label"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            "methd = 'majority'",
            "combine: unknown key 'methd' (did you mean 'method'?); allowed: accuracy, method, prior, strength, without, stores, ",
        ),
        ("gold = 'gold.jsonl'", "combine: unknown key 'gold'; allowed: "),
        ("people = 'yes'", "combine: people: expected `bool`, got `str`"),
    ],
)
def test_a_table_with_a_setting_that_is_none_is_refused_before_anything_is_labelled(folder, table, problem):
    (folder / "project.toml").write_text(PROJECT.partition("[combine]")[0] + f"[combine]\n{table}\n")
    with pytest.raises(FormatError) as caught:
        run_project(folder / "project.toml")
    assert str(caught.value).startswith(f"{folder}/project.toml: {problem}")
    assert not (folder / "out").exists()


def test_several_questions_are_refused_before_anything_is_labelled(folder):
    (folder / "task.toml").write_text('format = 2\nname = "t"\n[[questions]]\nname = "way"\nquestion = "Up?"\nkind = "yesno"\n')
    shutil.copy(folder / "texts.jsonl", folder / "gold.jsonl")
    (folder / "project.toml").write_text("format = 1\n[combine]\n")
    with pytest.raises(UserError) as caught:
        run_project(folder / "project.toml")
    assert str(caught.value) == (
        f"{folder}/project.toml: [combine] takes a task of one choice, and this one asks way (yesno); write that question into a file of "
        "its own"
    )
