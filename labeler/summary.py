"""What each method makes of the same stored paths, as a table for a person."""

from __future__ import annotations

from collections import Counter

import numpy as np

from contract import metrics
from contract.soft_label import SoftLabel
from labeler.aggregate import METHODS, soft_labels
from labeler.store import LabelStore, Run


def summary(store: LabelStore, run: Run) -> str:
    """One block a method: shares of the labels, agreement, label mass, and scores with 95 % intervals where gold exists.

    Raises:
        UserError: if the run holds no path.
    """
    settings = run.settings
    lines = [
        f"run {run.number}: teacher {settings.teacher} ({settings.teacher_digest[:12]}…, {settings.build}), "
        f"mode {settings.mode}, {settings.n_variants} variants, temperature {settings.temperature}, seed {settings.seed}"
    ]
    for method in METHODS:
        rows = soft_labels(store, run, method)  # type: ignore[arg-type]  # METHODS are the type's own values
        lines += ["", f"{method}: {len(rows)} texts", *_block(rows, settings.labels)]
    return "\n".join(lines)


def _block(rows: list[SoftLabel], labels: list[str]) -> list[str]:
    """Four lines about one method."""
    shares = Counter(row.majority for row in rows)
    agreement = Counter(f"{max(row.votes.values())}/{row.n_paths}" for row in rows)
    lines = [
        "  majority    " + ", ".join(f"{name} {shares[name] / len(rows):.0%}" for name in labels),
        "  agreement   " + ", ".join(f"{key} {agreement[key]}" for key in sorted(agreement)),
        f"  label mass  {np.mean([row.label_mass for row in rows]):.2f}",
    ]
    gold = [row for row in rows if row.gold is not None]
    if gold:
        probs = np.array([[row.probs[name] for name in labels] for row in gold])
        scores = metrics.scores(probs, np.array([labels.index(row.gold or "") for row in gold]))
        lines.append(f"  gold (n={len(gold)})  " + ", ".join(f"{name} {score.as_text()}" for name, score in scores.items()))
    return lines
