"""A table of students: each trained on the same soft labels, scored with its teacher and baselines on the same gold sets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps import Steps

GUIDE = "soft_ce"  # the checkpoint that the smaller families learn from
FROM, MORE = "FROM", "MORE"  # stand for its folder, and for a file of further texts
STUDENTS: dict[str, tuple[str, list[str]]] = {  # checkpoint and options of `potstill train`, by row
    "student, soft_ce": (GUIDE, ["--min-agreement", "0"]),
    "student, cls": ("cls", ["--loss", "cls", "--min-agreement", "0.6"]),
    "student, cls, every text": ("cls-0", ["--loss", "cls", "--min-agreement", "0"]),
    "student, reg": ("reg", ["--loss", "reg", "--min-agreement", "0"]),
    "student, soft_ce, 5 seeds": ("soft_ce-5", ["--min-agreement", "0", "--seeds", "5"]),
    "static": ("static", ["--family", "static", "--from", FROM, "--pool", MORE, "--min-agreement", "0"]),
    "charformer": (
        "charformer",
        ["--family", "charformer", "--from", FROM, "--pool", MORE, "--pretrain", "300", "--epochs", "1", "--min-agreement", "0"],
    ),
}


@dataclass(frozen=True)
class Column:
    """One gold set, read through one label map."""

    gold: Path
    teacher: Path  # soft labels of the same texts
    label_map: str = ""  # of `potstill evaluate`; empty: the labels are the task's


@dataclass(frozen=True)
class Plan:
    """What is trained on and scored on."""

    task: Path
    pool: Path  # soft labels
    columns: dict[str, Column]
    students: dict[str, tuple[str, list[str]]]  # like STUDENTS
    baselines: list[str] = field(default_factory=lambda: ["majority", "tfidf"])  # of `potstill evaluate`; scored once
    more: Path | None = None  # further texts, which the guide answers for the smaller families; rows that name MORE need it


def filled(steps: Steps, plan: Plan) -> str:
    """The table as Markdown; a row that was asked for is trained where its checkpoint is not there."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row, (name, settings) in plan.students.items():
        checkpoint = steps.out / "students" / name
        names = {FROM: str(steps.out / "students" / GUIDE), MORE: str(plan.more)}
        settings = [names.get(part, part) for part in settings]
        steps.run(f"train {row}", checkpoint, "train", plan.task, plan.pool, checkpoint, *settings)
        first = row == next(iter(plan.students))
        for title, column in plan.columns.items():
            more: list[object] = ["--teacher", column.teacher, *(["--map", column.label_map] if column.label_map else [])]
            if first:  # baselines need to be seen once
                more += ["--soft-labels", plan.pool, *(part for name in plan.baselines for part in ("--baseline", name))]
            result = steps.out / "scores" / f"{checkpoint.name} {title}.json"
            steps.run(f"evaluate {row} on {title}", result, "evaluate", checkpoint, column.gold, *more, "--json")
            found = json.loads(result.read_bytes())
            for system, scores in found["systems"].items():
                table.setdefault(row if system == "student" else system, {})[title] = {**scores, "n": found["n"]}
            table[row][title]["minus"] = found["student_minus"]["teacher"]["macro_f1"]
    return _as_markdown(table, list(plan.columns))


def _as_markdown(table: dict[str, dict[str, dict[str, Any]]], columns: list[str]) -> str:
    """Accuracy / macro-F1 with the interval of macro-F1, ECE; students with their paired difference from the teacher."""
    some = next(iter(table.values()))
    lines = [
        "| | " + " | ".join(f"{column} ({some[column]['n']})" for column in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for row in ["teacher", *(name for name in table if name != "teacher")]:
        cells = [_cell(table[row][column]) for column in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(scores: dict[str, Any]) -> str:
    """`0.570 / 0.561 [0.520, 0.603], ECE 0.041; +0.021 [-0.010, +0.052]`."""
    f1 = scores["macro_f1"]
    cell = f"{scores['accuracy']['value']:.3f} / {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}]"
    cell += f", ECE {scores['ece']['value']:.3f}" if "ece" in scores else ""
    if minus := scores.get("minus"):
        cell += f"; {minus['value']:+.3f} [{minus['low']:+.3f}, {minus['high']:+.3f}]"
    return cell
