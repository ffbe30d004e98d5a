"""What more texts and paths would have brought a run, from its stored paths: the page of `potstill report --budget`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from potstill.contract.checkpoint import Student
from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.project import SOFT_LABELS_FILE, STORE_FILE
from potstill.contract.soft_label import read_soft_labels
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.other_texts.budget import Progress, budget_points
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.store.database import LabelStore
from potstill.trainer.report.budget_plot import BudgetPart, budget_plot
from potstill.trainer.report.plot_style import Plot


def plot_of_budget(folder: Path, student: Student, seconds: float | None, progress: Progress | None = None) -> Plot:
    """The plot.

    Args:
        folder: of `potstill run` or `potstill label`, with gold texts labelled along (`--gold`).
        seconds: that all the paths took; None: not known.
    Raises:
        FormatError: if the store is malformed.
        UserError: if it holds no run of the student's task, its labels were narrowed to candidates, or there are too few texts.
    """
    path = folder / STORE_FILE
    with LabelStore.read(path) as store:
        runs = [run for run in store.runs() if run.settings.task_digest == student.task_digest]
        if not runs:
            raise UserError(f"{path}: holds no run of the student's task; name the folder that it was labelled in")
        settings = runs[-1].settings
        if settings.candidates:
            raise UserError(
                f"{path}: each text was asked about candidates of its own, of which there is no curve; leave --budget out"
            )
        table = read_paths(store, runs[-1])
    try:
        vectors = TextSpace(DEFAULTS.backbone).vectors(table.texts)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from None
    points = budget_points(table, settings, _as_derived(folder, student), vectors, progress)
    parts = [BudgetPart(point.n_texts, point.n_paths, point.labels, point.student) for point in points]
    return budget_plot(parts, None if seconds is None else seconds / len(table.owners))


def _as_derived(folder: Path, student: Student) -> DeriveConfig:
    """The default settings, without refining where the folder's soft labels were not refined: a curve is of labels like those."""
    path = folder / SOFT_LABELS_FILE
    rows = read_soft_labels(path, labels=student.labels) if path.is_file() else []
    return replace(DEFAULTS, refine="off") if rows and "+refined" not in rows[0].method else DEFAULTS
