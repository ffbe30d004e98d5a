"""Teacher, student and bundle on the same gold texts, and what an answer costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Scores
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import texts_and_targets
from potstill.serve.bench.bundle import BundleBenchConfig, bench_bundle
from potstill.serve.bench.bundle_report import BundleBenchReport
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.evaluation.evaluate import predict
from potstill.workflows.labelling import GOLD_LABELS_FILE
from potstill.workflows.pipeline import Outcome


@dataclass(frozen=True)
class Measured:
    """Scores by who answered, and the bundle's speed."""

    n_gold: int
    scores: dict[str, Scores]  # teacher, student, int8
    bench: BundleBenchReport


def measure(outcome: Outcome) -> Measured:
    """Score all three on the gold texts that the teacher could label, and time the bundle on them."""
    labels = outcome.plan.task.label_names
    rows = read_soft_labels(outcome.out / GOLD_LABELS_FILE, labels=labels)
    by_id = {text.id: text for text in outcome.plan.all_texts}
    texts = [by_id[row.id] for row in rows]
    gold = np.array([labels.index(row.gold or "") for row in rows])
    with Classifier.open(outcome.bundle) as classifier:
        int8 = classifier.probs(*texts_and_targets(texts))
    probs = {
        "teacher": np.array([[row.probs[name] for name in labels] for row in rows]),
        "student": predict(outcome.checkpoint, texts),
        "int8": int8,
    }
    report = bench_bundle(outcome.bundle, BundleBenchConfig(texts=outcome.plan.gold_file))
    return Measured(len(rows), {name: metrics.scores(values, gold) for name, values in probs.items()}, report)


def table(measured: Measured) -> str:
    """The scores for a person, each with its 95 % interval."""
    lines = [f"\non {measured.n_gold} gold texts   accuracy               macro-F1"]
    for name, values in measured.scores.items():
        lines.append(f"  {name:<18} {values['accuracy'].as_text():<22} {values['macro_f1'].as_text()}")
    return "\n".join(lines)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
