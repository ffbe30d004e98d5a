"""Train a table of students on the same soft labels, and score them with teacher and baselines on the same gold sets.

Every step is a console command whose result is kept, so that a benchmark that was interrupted can be resumed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill.contract.texts import Text, write_texts

ROOT = Path(__file__).resolve().parent.parent

GUIDE = "soft_ce"  # the checkpoint that smaller families are distilled from
FROM, MORE = "FROM", "MORE"  # placeholders for its folder, and for a file of further texts
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


class Steps:
    """Console commands that are each run once, and the seconds they took."""

    def __init__(self, out: Path) -> None:
        """Open the folder of all results."""
        self.out = out
        self._file = out / "seconds.json"
        out.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, name: str, result: Path, *arguments: object) -> Path:
        """Run `potstill ARGUMENTS` unless its result exists; returns the result. Exits the program if the command fails."""
        if result.exists():
            return result
        print(f"{name} ...", file=sys.stderr, flush=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        code = "import sys; from potstill.commands.main import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        if not result.exists():  # a command that prints its result
            result.write_bytes(done.stdout)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        self._file.write_text(json.dumps(self.seconds, indent=2))
        return result

    def gold(self, name: str, texts: list[Text]) -> Path:
        """Write a file of gold texts."""
        file = self.out / "gold" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write_texts(texts))
        return file

    def texts(self, name: str, texts: list[Text]) -> Path:
        """Write a file of texts."""
        file = self.out / f"{name}.jsonl"
        file.write_bytes(write_texts(texts))
        return file

    def labels(self, name: str, task: Path, texts: list[Text], asked: list[object]) -> Path:
        """Soft labels of the texts, labelled without their gold labels. Args: asked, options of `potstill label`."""
        folder = self.out / "labels" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.parent / f"{name}.jsonl"
        file.write_bytes(write_texts([Text(text.text, text.id) for text in texts]))
        return self.run(f"label {name}", folder / "soft_labels.parquet", "label", task, file, folder, *asked)

    def as_text(self) -> str:
        """A line for each step, with its name and seconds."""
        return "\n".join(f"{name}: {seconds:.0f} s" for name, seconds in self.seconds.items())


@dataclass(frozen=True)
class Column:
    """One gold set with one label map."""

    gold: Path
    teacher: Path  # soft labels of the same texts
    label_map: str = ""  # for `potstill evaluate --map`; empty: the labels are the task's


@dataclass(frozen=True)
class Plan:
    """The students to train and the gold sets to score."""

    task: Path
    pool: Path  # soft labels
    columns: dict[str, Column]
    students: dict[str, tuple[str, list[str]]]  # like STUDENTS
    baselines: list[str] = field(default_factory=lambda: ["majority", "tfidf"])  # for `potstill evaluate`; scored once
    more: Path | None = None  # further texts, labelled by the guide for smaller families; rows that name MORE need it


def fill_table(steps: Steps, plan: Plan) -> str:
    """Train the students that are missing, score all, and return the table as Markdown."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row, (name, settings) in plan.students.items():
        checkpoint = steps.out / "students" / name
        names = {FROM: str(steps.out / "students" / GUIDE), MORE: str(plan.more)}
        settings = [names.get(part, part) for part in settings]
        steps.run(f"train {row}", checkpoint, "train", plan.task, plan.pool, checkpoint, *settings)
        first = row == next(iter(plan.students))
        for title, column in plan.columns.items():
            more: list[object] = ["--teacher", column.teacher, *(["--map", column.label_map] if column.label_map else [])]
            if first:  # baselines are scored once
                more += ["--soft-labels", plan.pool, *(part for name in plan.baselines for part in ("--baseline", name))]
            result = steps.out / "scores" / f"{checkpoint.name} {title}.json"
            steps.run(f"evaluate {row} on {title}", result, "evaluate", checkpoint, column.gold, *more, "--json")
            found = json.loads(result.read_bytes())
            for system, scores in found["systems"].items():
                table.setdefault(row if system == "student" else system, {})[title] = {**scores, "n": found["n"]}
            table[row][title]["minus"] = found["student_minus"]["teacher"]["macro_f1"]
    return _as_markdown(table, list(plan.columns))


def _as_markdown(table: dict[str, dict[str, dict[str, Any]]], columns: list[str]) -> str:
    """Accuracy / macro-F1 with its interval, and ECE; for students also the paired difference from the teacher."""
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
