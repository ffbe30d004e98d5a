"""Planned against actual time of labelling runs: a plan as `potstill plan` makes it, then `potstill label` in a process of its own.

    python benchmarks/teacher/plan.py [--kinds short long mixed] [--out out/plan] [--measure 20]

The texts are made from the example's posts: short ones (one post), long ones (three posts in one), and a mixture. For each kind the
pace of the embedded teacher is measured once, then its runs are made and timed from outside. Half of the runs have more texts than
fit, so `--hours` ends them; the others have a file of as many texts as a plan says will fit. Every run has a seed of its own, so
that no shared prompt is on disk from an earlier one. What was measured is kept in OUT/plan.jsonl, so the kinds may be measured one
after the other; the table shows all that is there. The planned time of a run with `--hours` is that of its row, not the hours.
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
from potstill.contract.task import load_task
from potstill.contract.texts import Text, read_texts, write_texts
from potstill.labeler.config import LabelConfig, RunMode
from potstill.labeler.run.pilot import LabellingPace, measured_pace
from potstill.labeler.run.plan_rows import fitting
from potstill.labeler.teachers.config import TeacherConfig
from potstill.workflows.teacher import configured_teacher

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "market_stance"
TASK = EXAMPLE / "task.toml"
N_TEXTS, SEED = 3000, 100
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
    Job("short", "direct", 8, 40, timed=True),
    Job("short", "cascade", 8, 40, timed=True),
    Job("short", "cot", 8, 35, timed=False),
    Job("long", "direct", 4, 40, timed=True),
    Job("long", "cot", 4, 40, timed=True),
    Job("long", "direct", 2, 30, timed=False),
    Job("long", "cot", 8, 35, timed=False),
    Job("mixed", "cot", 8, 40, timed=True),
    Job("mixed", "direct", 8, 35, timed=False),
    Job("mixed", "cascade", 8, 35, timed=False),
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
    parser.add_argument("--kinds", nargs="*", default=["short", "long", "mixed"], help="kinds of texts")
    parser.add_argument("--out", type=Path, default=Path("out/plan"))
    parser.add_argument("--measure", type=float, default=20.0, help="seconds to measure the pace, for each kind")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "plan.jsonl"
    for kind in options.kinds:
        pace = measured(kind, options.measure)
        for number, job in enumerate(JOBS):
            if job.kind == kind:
                found = made(number, job, pace)
                with kept.open("ab") as file:
                    file.write(msgspec.json.encode(found) + b"\n")
                print(f"run {number}: planned {found.planned_s:.1f} s, took {found.actual_s:.1f} s", file=sys.stderr, flush=True)
    if kept.exists():
        rows = [msgspec.json.decode(line, type=Measured) for line in kept.read_bytes().splitlines()]
        print(table(list({row.run: row for row in rows}.values())))


def measured(kind: str, seconds: float) -> LabellingPace:
    """The pace of the embedded teacher for texts of a kind."""
    began = time.monotonic()
    teacher = configured_teacher(TeacherConfig(), lambda line: print(line, file=sys.stderr))
    try:
        start_s = time.monotonic() - began
        config, texts = LabelConfig(seed=SEED), made_up(kind)
        return measured_pace(load_task(TASK), texts, teacher, config, seconds, start_s=start_s, cot=True)
    finally:
        teacher.close()


def made(number: int, job: Job, pace: LabellingPace) -> Measured:
    """Plan one run and make it."""
    config, texts = LabelConfig(mode=job.mode, n_paths=job.n_paths), made_up(job.kind)
    n_texts, planned_s = fitting(pace, config, len(texts), job.seconds, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "texts.jsonl", Path(folder) / "out"
        file.write_bytes(write_texts(texts if job.timed else texts[:n_texts]))
        words = ["--mode", job.mode, "--paths", str(job.n_paths), "--seed", str(SEED + 1 + number)]
        words += ["--hours", str(job.seconds / 3600)] if job.timed else []
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "potstill", "label", TASK, file, out, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise SystemExit(done.stderr)
        return Measured(number, planned_s, seconds, n_texts, len(read_soft_labels(out / "soft_labels.parquet")))


def made_up(kind: str) -> list[Text]:
    """Different texts of that kind from the example's posts, always the same."""
    posts = [text.text for text in read_texts(EXAMPLE / "texts.jsonl").texts]
    rng, made = random.Random(SEED), dict[str, None]()
    while len(made) < N_TEXTS:
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
            f"{row.actual_s:.1f} | {_ratio(row):.2f} | {row.planned_texts} | {row.texts} |"
        )
    within = sum(abs(_ratio(row) - 1) <= WITHIN for row in rows)
    return "\n".join([*lines, f"\nwithin {WITHIN:.0%}: {within} of {len(rows)}"])


def _ratio(row: Measured) -> float:
    """Actual over planned time; infinite where nothing was to fit."""
    return row.actual_s / row.planned_s if row.planned_s else float("inf")


if __name__ == "__main__":
    main()
