"""Planned against actual time of labelling runs: `potstill plan`, then `potstill label` in a process of its own, timed outside.

    python benchmarks/plan.py [--runs 0 1 2 ...] [--out out/plan] [--measure 20]

The texts are made from the example's posts: short ones (one post), long ones (three posts in one), and a mixture. Half of the runs
have more texts than fit, so `--hours` ends them; the others have a file that a plan says will take about a minute. Every run has a
seed of its own, so that no shared prompt is on disk from an earlier one. What was measured is kept in OUT/plan.jsonl, so the runs
may be made in pieces; the table shows all that is there. The planned time of a run with `--hours` is that of its row.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.soft_label import read_soft_labels
from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.texts import Text, read_texts, write_texts
from potstill.labeler.config import LabelConfig, RunMode
from potstill.workflows.planning import PlanConfig, plan

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "market_stance"
WITHIN = 0.15  # of the planned time


@dataclass(frozen=True)
class Job:
    """One run to plan and to make."""

    kind: str  # of the texts
    mode: RunMode
    n_paths: int
    seconds: float  # that it should take, about
    timed: bool  # whether `--hours` ends it


JOBS = (
    Job("short", "direct", 8, 45, timed=True),
    Job("long", "direct", 4, 60, timed=True),
    Job("mixed", "cot", 8, 60, timed=True),
    Job("long", "cot", 4, 60, timed=True),
    Job("short", "cascade", 8, 60, timed=True),
    Job("mixed", "direct", 8, 40, timed=False),
    Job("long", "direct", 2, 40, timed=False),
    Job("short", "cot", 8, 50, timed=False),
    Job("long", "cot", 8, 50, timed=False),
    Job("mixed", "cascade", 8, 45, timed=False),
)


class Measured(msgspec.Struct, frozen=True):
    """A run's planned and actual time and texts."""

    run: int
    planned_s: float
    actual_s: float
    planned_texts: int
    texts: int


def main() -> None:
    """Make the wanted runs, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="*", default=range(len(JOBS)), help="numbers of the runs to make")
    parser.add_argument("--out", type=Path, default=Path("out/plan"))
    parser.add_argument("--measure", type=float, default=20.0, help="seconds that a plan may measure")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "plan.jsonl"
    for number in options.runs:
        found = measured(number, options.measure)
        with kept.open("ab") as file:
            file.write(msgspec.json.encode(found) + b"\n")
        print(f"run {number}: planned {found.planned_s:.1f} s, took {found.actual_s:.1f} s", file=sys.stderr, flush=True)
    if kept.exists():
        rows = [msgspec.json.decode(line, type=Measured) for line in kept.read_bytes().splitlines()]
        print(table(list({row.run: row for row in rows}.values())))


def measured(number: int, measure_s: float) -> Measured:
    """Plan one run and make it."""
    job = JOBS[number]
    config = LabelConfig(mode=job.mode, n_paths=job.n_paths, seed=100 + number)
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder) / "texts.jsonl", Path(folder) / "out"
        texts.write_bytes(write_texts(made_up(job.kind, 3000, number)))
        wanted = PlanConfig(job.seconds / 3600, measure_s, job.n_paths)
        (row,) = plan(EXAMPLE / "task.toml", texts, wanted, config).rows[:1]
        if not job.timed:  # a file of that many texts
            texts.write_bytes(write_texts(made_up(job.kind, 3000, number)[: row.n_texts]))
        words = ["--mode", job.mode, "--paths", str(job.n_paths), "--seed", str(config.seed)]
        words += ["--hours", str(job.seconds / 3600)] if job.timed else []
        command = [sys.executable, "-m", "potstill", "label", EXAMPLE / "task.toml", texts, out, *words]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            raise SystemExit(done.stderr)
        n_texts = len(read_soft_labels(out / "soft_labels.parquet"))
    return Measured(number, row.seconds, seconds, row.n_texts, n_texts)


def made_up(kind: str, n: int, seed: int) -> list[Text]:
    """Different texts of that kind from the example's posts, always the same for a seed."""
    posts = [text.text for text in read_texts(EXAMPLE / "texts.jsonl").texts]
    rng, made = random.Random(seed), dict[str, None]()
    while len(made) < n:
        n_posts = {"short": 1, "long": 3, "mixed": rng.choice((1, 1, 2, 4))}[kind]
        words = " ".join(rng.sample(posts, n_posts)).split()
        made[" ".join([*words[: -rng.randint(1, 4)], str(rng.randint(1, 999))])] = None
    return [Text(text, str(i)) for i, text in enumerate(made)]


def table(rows: list[Measured]) -> str:
    """The runs as a Markdown table, and how many were within bounds."""
    lines = [
        f"{cpu_name()}, {usable_cores()} cores\n",
        "| texts | mode | paths | ended by | planned, s | took, s | took/planned | texts planned | labelled |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: row.run):
        job = JOBS[row.run]
        lines.append(
            f"| {job.kind} | {job.mode} | {job.n_paths} | {'--hours' if job.timed else 'its texts'} | {row.planned_s:.1f} | "
            f"{row.actual_s:.1f} | {row.actual_s / row.planned_s:.2f} | {row.planned_texts} | {row.texts} |"
        )
    within = sum(abs(row.actual_s / row.planned_s - 1) <= WITHIN for row in rows)
    return "\n".join([*lines, f"\nwithin {WITHIN:.0%}: {within} of {len(rows)}"])


if __name__ == "__main__":
    main()
