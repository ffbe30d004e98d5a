"""The table of arXiv 2212.11311 on real data: teacher, students and baselines on Reddit posts, and on other sets unseen.

    python benchmarks/paper_table.py --data DATA [--out out/paper_table] [--n 6000] [--paths 3] [--pack Q4_0] [--ready-made FOLDER]

DATA holds the folders that `benchmarks/gold_sets.py` names: gzip-compressed JSON lines with text and label. The task is the
example's own, unchanged. Students are trained on the teacher's labels of the unlabelled Reddit pool alone, so every column but the
first shows transfer; gold is used for scores only. Every step writes a file or folder of its own and is left out
where that is there: a run that was stopped goes on where it was. Prints the table as Markdown, and how long each step took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gold_sets import SETS, reddit_pool

from contract.texts import Text, write_texts

ROOT = Path(__file__).resolve().parent.parent
TASK = ROOT / "examples" / "market_stance" / "task.toml"
MAP = "positive=bullish,negative=bearish"
BINARY = ",neutral="
STUDENTS: dict[str, list[str]] = {  # options of `potstill train`, by row
    "student, cls": ["--loss", "cls", "--min-agreement", "0.6"],
    "student, reg": ["--loss", "reg", "--min-agreement", "0"],
    "student, soft_ce": ["--loss", "soft_ce", "--min-agreement", "0"],
}


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    data: Path
    out: Path
    n: int  # texts of the pool
    paths: int  # of each text
    pack: str
    ready_made: list[Path]  # folders of ready-made classifiers


class Steps:
    """Console commands whose results stay; each is run once."""

    def __init__(self, out: Path) -> None:
        """Args: out, the folder of everything."""
        self._file = out / "seconds.json"
        out.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, name: str, result: Path, *arguments: object) -> Path:
        """The result, made by `potstill ARGUMENTS` unless it is there; a command that fails ends the program with its own line."""
        if result.exists():
            return result
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        code = "import sys; from commands.main import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        if not result.exists():  # a command that prints its result
            result.write_bytes(done.stdout)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        self._file.write_text(json.dumps(self.seconds, indent=2))
        return result


def labelled(steps: Steps, options: Options, name: str, texts: list[Text]) -> Path:
    """The teacher's soft labels of the texts, which it sees without gold."""
    folder = options.out / "labels" / name
    file = folder.parent / f"{name}.jsonl"
    folder.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(write_texts([Text(text.text, text.id) for text in texts]))
    asked = ["--mode", "direct", "--paths", options.paths, "--pack", options.pack]
    return steps.run(f"label {name}", folder / "soft_labels.parquet", "label", TASK, file, folder, *asked)


def evaluated(steps: Steps, options: Options, student: str, checkpoint: Path, column: str, more: list[object]) -> dict[str, Any]:
    """The scores of a student on one column."""
    name, _, kind = column.partition(", ")
    gold = options.out / "gold" / f"{name}.jsonl"
    label_map = MAP + (BINARY if kind else "")
    result = options.out / "scores" / f"{checkpoint.name} {column}.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    steps.run(
        f"evaluate {student} on {column}", result, "evaluate", checkpoint, gold, *map(str, more), "--map", label_map, "--json"
    )
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found


def main(options: Options) -> None:
    """Everything, then the table."""
    steps = Steps(options.out)
    pool = labelled(steps, options, "pool", reddit_pool(options.data, options.n))
    teachers: dict[str, Path] = {}
    for name, read in SETS.items():
        texts = read(options.data)
        file = options.out / "gold" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write_texts(texts))
        teachers[name] = labelled(steps, options, name, texts)
    columns = [column for name in SETS for column in ([name, f"{name}, binary"] if name.startswith("FiQA") else [name])]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row, settings in STUDENTS.items():
        checkpoint = options.out / "students" / row.rpartition(" ")[2]
        steps.run(f"train {row}", checkpoint, "train", TASK, pool, checkpoint, *settings)
        first = row == next(iter(STUDENTS))
        for column in columns:
            more: list[object] = ["--teacher", teachers[column.partition(", ")[0]]]
            if first:  # baselines need to be seen once
                more += ["--soft-labels", pool, "--baseline", "majority", "--baseline", "tfidf"]
                more += [part for folder in options.ready_made for part in ("--baseline", folder)]
            found = evaluated(steps, options, row, checkpoint, column, more)
            for name, scores in found["systems"].items():
                table.setdefault(row if name == "student" else name, {})[column] = {**scores, "n": found["n"]}
            table[row][column]["minus"] = found["student_minus"]["teacher"]["macro_f1"]
    print(as_markdown(table, columns))
    print("\n".join(f"{name}: {seconds:.0f} s" for name, seconds in steps.seconds.items()), file=sys.stderr)


def as_markdown(table: dict[str, dict[str, dict[str, Any]]], columns: list[str]) -> str:
    """Accuracy / macro-F1 with the interval of macro-F1; students with their paired difference from the teacher."""
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
    """`0.57 / 0.56 [0.52, 0.60], +0.021 [-0.010, +0.052]`."""
    f1 = scores["macro_f1"]
    cell = f"{scores['accuracy']['value']:.3f} / {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}]"
    if minus := scores.get("minus"):
        cell += f"; {minus['value']:+.3f} [{minus['low']:+.3f}, {minus['high']:+.3f}]"
    return cell


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/paper_table"))
    parser.add_argument("--n", type=int, default=6000)
    parser.add_argument("--paths", type=int, default=3)
    parser.add_argument("--pack", default="Q4_0")
    parser.add_argument("--ready-made", type=Path, action="append", default=[])
    main(Options(**vars(parser.parse_args())))
