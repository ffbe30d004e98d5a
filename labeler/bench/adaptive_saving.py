"""Measure what adaptive stopping saves and loses: label the same gold texts with all paths, and adaptively."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.bench.turns import BenchProgress
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import label
from potstill.labeler.run.progress import LiveRun
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import Teacher


@dataclass(frozen=True)
class Saving:
    """Adaptive stopping compared with a fixed number of paths, on the same gold texts."""

    paths_saved: float  # share of the fixed paths that were not drawn, 0 to 1
    fixed: float  # macro-F1
    adaptive: float  # macro-F1
    difference: Score  # macro-F1, adaptive minus fixed, with a paired interval over texts


def measure_saving(
    task: Task, gold: list[Text], teacher: Teacher, fixed: LabelConfig, adaptive: LabelConfig, progress: BenchProgress | None = None
) -> Saving:
    """Label the gold texts twice, in temporary stores.

    Args:
        gold: texts that all have a gold label.
        fixed: draws all paths.
        adaptive: the same settings with a bound.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label` does.
    """
    n_fixed, fixed_probs = _labelled(task, gold, teacher, fixed, progress)
    n_adaptive, adaptive_probs = _labelled(task, gold, teacher, adaptive, progress)
    truth = np.array([task.label_names.index(text.gold or "") for text in gold])
    return Saving(
        paths_saved=1 - n_adaptive / n_fixed,
        fixed=metrics.macro_f1(fixed_probs, truth),
        adaptive=metrics.macro_f1(adaptive_probs, truth),
        difference=metrics.difference(metrics.macro_f1, adaptive_probs, fixed_probs, truth),
    )


def _labelled(
    task: Task, gold: list[Text], teacher: Teacher, config: LabelConfig, progress: BenchProgress | None
) -> tuple[int, NDArray[np.float64]]:
    """Number of paths drawn, and probabilities float [N, C] in the order of the texts."""

    def show(now: LiveRun) -> None:
        if progress:
            progress("adaptive" if config.bound else "fixed", now.n_paths // config.n_paths, now.total // config.n_paths)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.db"
        report = label(task, gold, path, teacher, config, show)
        with LabelStore.read(path) as store:
            rows = soft_labels(store, report.run, ids=[text.id for text in gold])
    return report.n_paths, np.array([[row.probs[name] for name in task.label_names] for row in rows])
