"""What came of a project: scores of teacher, student and bundle on its gold texts, costs, and the demo's closing words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.checkpoint import read_student
from potstill.contract.files import atomic
from potstill.contract.project import GOLD_LABELS_FILE, SOFT_LABELS_FILE, TEACHER
from potstill.contract.questions.questionnaire import Questionnaire, as_single
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Scores
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import texts_and_targets
from potstill.models.catalog import find_backbone, find_teacher
from potstill.serve.bench.bundle import bench_bundle
from potstill.serve.bench.bundle_report import BundleBenchReport
from potstill.serve.bench.config import BundleBenchConfig
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.data.rows import read_trained_rows
from potstill.trainer.evaluation.baselines.find import BaselineInputs, built_in_baseline
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.evaluation.comparison_text import as_text
from potstill.trainer.evaluation.gold import read_gold
from potstill.trainer.evaluation.label_map import parse_label_map
from potstill.workflows.evaluation import EvaluateConfig, evaluate
from potstill.workflows.overview.few_gold import N_GOLD, few_gold
from potstill.workflows.pipeline import ProjectRun

SUMMARY_FILE = "summary.json"
LIVE_TEXTS = (
    "Took a second job just to buy more of this before earnings, and I would do it again.",
    "They fired the auditor on a Friday night. My puts and I wish you all a pleasant weekend.",
    "Which broker shows the borrow fee before you open the position?",
)


@dataclass(frozen=True)
class ProjectScores:
    """Scores by who answered."""

    n_gold: int
    scores: dict[str, Scores]  # teacher, student, int8
    beside: dict[str, Scores] = field(default_factory=dict)  # what the same could be had for without a student


def score(finished: ProjectRun) -> ProjectScores:
    """Score all three on the gold texts that the teacher could label."""
    labels = as_single(finished.plan.task, "potstill demo").label_names
    rows = read_soft_labels(finished.out / GOLD_LABELS_FILE, labels=labels)
    by_id = {text.id: text for text in finished.plan.all_texts}
    texts = [by_id[row.id] for row in rows]
    gold = np.array([labels.index(row.gold or "") for row in rows])
    with Classifier.open(finished.bundle) as classifier:
        int8 = classifier.probs(*texts_and_targets(texts))
    probs = {
        "teacher": np.array([[row.probs[name] for name in labels] for row in rows]),
        "student": predict(finished.checkpoint, texts),
        "int8": int8,
    }
    return ProjectScores(len(rows), {name: metrics.scores(values, gold) for name, values in probs.items()})


def score_beside(finished: ProjectRun, scored: ProjectScores) -> ProjectScores:
    """Add what stands beside a student of one choice: the commonest label, words alone on the same labels, a few gold labels."""
    student = read_student(finished.checkpoint)
    if finished.plan.gold_file is None:
        return scored
    gold = read_gold(finished.plan.gold_file, student, parse_label_map([], student.labels))
    rows = read_trained_rows(finished.out / SOFT_LABELS_FILE, finished.checkpoint, student)
    inputs = BaselineInputs(finished.checkpoint, student, gold, rows)
    found = {
        "commonest label": built_in_baseline("majority", inputs).probs,
        "words alone": built_in_baseline("tfidf", inputs).probs,
        f"{N_GOLD} gold texts": few_gold(gold.texts, gold.classes, len(gold.labels), find_backbone(student.backbone).path),
    }
    beside = {name: metrics.scores(probs, gold.classes) for name, probs in found.items() if probs is not None}
    return replace(scored, beside=beside)


def scores_text(finished: ProjectRun) -> str:
    """The scores of all three on the project's gold texts, for a person; of several questions a table for each."""
    if not isinstance(finished.plan.task, Questionnaire) or finished.plan.gold_file is None:
        return table(score(finished))
    config = EvaluateConfig(bundle=finished.bundle, teacher=finished.out / GOLD_LABELS_FILE)
    return f"\n{as_text(evaluate(finished.checkpoint, finished.plan.gold_file, config))}"


def time_bundle(finished: ProjectRun) -> BundleBenchReport:
    """Time the bundle on the gold texts, which takes ten seconds."""
    return bench_bundle(finished.bundle, BundleBenchConfig(texts=finished.plan.gold_file))


def table(scored: ProjectScores) -> str:
    """The scores for a person, each with its 95 % interval."""
    lines = [f"\non {scored.n_gold} gold texts   accuracy               macro-F1"]
    lines += map(_line, scored.scores.items())
    if scored.beside:
        lines += ["beside them", *map(_line, scored.beside.items())]
    return "\n".join(lines)


def _line(row: tuple[str, Scores]) -> str:
    """One row of :func:`table`."""
    name, values = row
    return f"  {name:<18} {values['accuracy'].as_text():<22} {values['macro_f1'].as_text()}"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_demo_summary(out: Path, finished: ProjectRun, scored: ProjectScores, bench: BundleBenchReport) -> None:
    """Write `summary.json`: the demo's figures for machines. Times in seconds, latencies in milliseconds per text."""
    teacher = find_teacher(TEACHER)
    shown = ("accuracy", "macro_f1")
    summary = {
        "teacher": {"name": teacher.name, "sha256": teacher.sha256},
        "n_texts": len(finished.plan.all_texts),
        "n_paths": len(finished.plan.all_texts) * finished.plan.config.n_paths,
        "n_gold": scored.n_gold,
        "label_s": finished.seconds["label"],
        "train_s": finished.seconds["train"],
        "export_s": finished.seconds["export"],
        **{metric: {who: values[metric].value for who, values in scored.scores.items()} for metric in shown},
        "intervals": {
            metric: {who: [values[metric].low, values[metric].high] for who, values in scored.scores.items()} for metric in shown
        },
        "beside": {who: {metric: values[metric].value for metric in shown} for who, values in scored.beside.items()},
        "latency_ms": {"p50": bench.p50_ms, "p99": bench.p99_ms},
        "bundle_bytes": folder_bytes(finished.bundle),
    }
    atomic.write_file(out / SUMMARY_FILE, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def demo_report(out: Path, finished: ProjectRun, scored: ProjectScores, bench: BundleBenchReport) -> str:
    """The demo's last lines: scores, costs, three live answers, and what to type next."""
    teacher = find_teacher(TEACHER)
    seconds = finished.seconds
    megabytes = {
        "teacher": teacher.path.stat().st_size / 1e6,
        "student": folder_bytes(finished.checkpoint) / 1e6,
        "bundle": folder_bytes(finished.bundle) / 1e6,
    }
    with Classifier.open(finished.bundle) as classifier:
        answers = classifier.classify(LIVE_TEXTS)
    live = [
        f"  {answer.label:<8} {answer.probs[answer.label]:.2f}  {text}" for text, answer in zip(LIVE_TEXTS, answers, strict=True)
    ]
    return "\n".join(
        [
            table(scored),
            "\n" + ", ".join(f"{name} {size:.0f} MB" for name, size in megabytes.items()),
            f"one text takes {bench.p50_ms:.1f} ms (p50), {bench.p99_ms:.1f} ms (p99), so {bench.texts_per_s:.0f} texts/s a core",
            "  ".join(f"{name} {seconds[name]:.0f} s" for name in ("label", "train", "export")),
            "\nthree posts that it never saw:",
            *live,
            f"\neverything is in {out}/, the figures in {out / SUMMARY_FILE}",
            "now with your own texts:  potstill init my_task",
        ]
    )
