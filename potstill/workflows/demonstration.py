"""What the demo runs on, and what it says at the end."""

from __future__ import annotations

from pathlib import Path

import msgspec

from potstill.contract.files import atomic
from potstill.models.catalog import find_teacher
from potstill.serve.runtime.classifier import Classifier
from potstill.workflows import scores
from potstill.workflows.example_files import example_folder
from potstill.workflows.pipeline import Outcome
from potstill.workflows.scores import Measured

EXAMPLE = "market_stance"
SUMMARY_FILE = "summary.json"
PROJECT = """\
# The demo's project; the same file for your own texts is written by: potstill init DIR
format = 1
task = "task.toml"
texts = "texts.jsonl"
gold = "gold.jsonl"
out = "."
teacher = "smollm2-135m-instruct"

[label]
mode = "direct"     # "cot" lets the teacher reason first; on these posts it is no better and takes longer
n_paths = 3         # of the usual 8, to end within minutes: one prompt variant each
"""
LIVE = (
    "Took a second job just to buy more of this before earnings, and I would do it again.",
    "They fired the auditor on a Friday night. My puts and I wish you all a pleasant weekend.",
    "Which broker shows the borrow fee before you open the position?",
)


def prepare(out: Path) -> Path:
    """Copy the example into ``out`` and write its project file; returns the project file."""
    source = example_folder(EXAMPLE)
    for name in ("task.toml", "texts.jsonl", "gold.jsonl"):
        atomic.write_file(out / name, (source / name).read_bytes())
    atomic.write_file(out / "project.toml", PROJECT.encode())
    return out / "project.toml"


def write_summary(out: Path, outcome: Outcome, measured: Measured) -> None:
    """Write `summary.json`: the demo's figures for machines. Times in seconds, latencies in milliseconds per text."""
    teacher = find_teacher("smollm2-135m-instruct")
    summary = {
        "teacher": {"name": teacher.name, "sha256": teacher.sha256},
        "n_texts": len(outcome.plan.all_texts),
        "n_paths": len(outcome.plan.all_texts) * outcome.plan.config.n_paths,
        "n_gold": measured.n_gold,
        "label_s": outcome.seconds["label"],
        "train_s": outcome.seconds["train"],
        "export_s": outcome.seconds["export"],
        **{metric: {who: values[metric].value for who, values in measured.scores.items()} for metric in ("accuracy", "macro_f1")},
        "intervals": {
            metric: {who: [values[metric].low, values[metric].high] for who, values in measured.scores.items()}
            for metric in ("accuracy", "macro_f1")
        },
        "latency_ms": {"p50": measured.bench.p50_ms, "p99": measured.bench.p99_ms},
        "bundle_bytes": scores.folder_bytes(outcome.bundle),
    }
    atomic.write_file(out / SUMMARY_FILE, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def report(out: Path, outcome: Outcome, measured: Measured) -> str:
    """Scores, costs, three live answers, and what to type next."""
    teacher = find_teacher("smollm2-135m-instruct")
    seconds, bench = outcome.seconds, measured.bench
    megabytes = {
        "teacher": teacher.path.stat().st_size / 1e6,
        "student": scores.folder_bytes(outcome.checkpoint) / 1e6,
        "bundle": scores.folder_bytes(outcome.bundle) / 1e6,
    }
    with Classifier.open(outcome.bundle) as classifier:
        answers = classifier.classify(LIVE)
    live = [f"  {answer.label:<8} {answer.probs[answer.label]:.2f}  {text}" for text, answer in zip(LIVE, answers, strict=True)]
    return "\n".join(
        [
            scores.table(measured),
            "\n" + ", ".join(f"{name} {size:.0f} MB" for name, size in megabytes.items()),
            f"one text takes {bench.p50_ms:.1f} ms (p50), {bench.p99_ms:.1f} ms (p99), so {bench.texts_per_s:.0f} texts/s a core",
            "  ".join(f"{name} {seconds[name]:.0f} s" for name in ("label", "train", "export")),
            "\nthree posts that it never saw:",
            *live,
            f"\neverything is in {out}/, the figures in {out / SUMMARY_FILE}",
            "now with your own texts:  potstill init my_task",
        ]
    )
