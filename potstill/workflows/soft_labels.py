"""What is made of a label store without a new token: soft labels, a comparison of methods, and files for people to review."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.interchange.annotation import AnnotationGuide, annotation_guide
from potstill.contract.interchange.review_export import ReviewConfig, ReviewReport, write_review
from potstill.contract.soft_label import write_soft_labels
from potstill.contract.task import load_task
from potstill.labeler.aggregation import soft_labels as derivation
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.soft_labels import Derived
from potstill.labeler.aggregation.summary import Summary, summary
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.store.integrity import StoreCheck, check_store

_REVIEW = ReviewConfig()


def derive(store: str | Path, soft_labels: str | Path, config: DeriveConfig = DEFAULTS, *, run: int | None = None) -> Derived:
    """Derive soft labels from the paths of a label store once more, in another way; `potstill labels derive`.

        >>> derived = potstill.derive("out/labels.db", "votes.jsonl", potstill.DeriveConfig(method="votes"))
        >>> derived.rows[0].method
        'votes'

    Args:
        store: the file `labels.db` that :func:`potstill.label` wrote.
        soft_labels: the file to write, .parquet or .jsonl; it holds the texts with gold labels too.
        config: the method, and what it takes.
        run: number of the run; None: the newest.
    Returns:
        The soft labels in the order of their texts' ids, and warnings about them.
    Raises:
        FormatError: if the store is damaged.
        UserError: if there is no such store or run, or its paths cannot be derived from in this way.
    """
    with LabelStore.read(Path(store)) as opened:
        derived = derivation.derive(opened, opened.find_run(run), config)
    write_soft_labels(Path(soft_labels), derived.rows)
    return derived


def summarize(store: str | Path, config: DeriveConfig = DEFAULTS, *, run: int | None = None) -> Summary:
    """Compare what each method makes of a store's paths: scores on gold, label shares, agreement, cost; raises as `derive`."""
    with LabelStore.read(Path(store)) as opened:
        return summary(opened, opened.find_run(run), config)


def check(store: str | Path) -> StoreCheck:
    """Look for damage in a store: in the file, and in every path; raises UserError if there is no such store."""
    with LabelStore.read(Path(store)) as opened:
        return check_store(opened)


def export_for_review(
    store: str | Path,
    file: str | Path,
    config: ReviewConfig = _REVIEW,
    *,
    task: str | Path | None = None,
    derive: DeriveConfig = DEFAULTS,
    run: int | None = None,
) -> tuple[ReviewReport, list[str]]:
    """Write the soft labels of a store's run for people to review, or as a table.

    Args:
        file: the file to write, or for the format `datasets` a new folder.
        task: the task's file; its question, guideline and meanings are then shown to the reviewers.
    Returns:
        What was written, and warnings about the soft labels.
    Raises:
        FormatError: if the store is damaged, or the task has other labels than the run.
        UserError: if there is no such store or run, or nothing is left to review.
    """
    with LabelStore.read(Path(store)) as opened:
        found = opened.find_run(run)
        derived = derivation.derive(opened, found, derive)
    guide = _guide(task, found.settings, any(row.target for row in derived.rows))
    source = f"{found.settings.teacher} {derived.rows[0].method}"
    return write_review(Path(file), derived.rows, guide, source, config), derived.warnings


def _guide(task_file: str | Path | None, settings: RunSettings, target: bool) -> AnnotationGuide:
    """What the reviewers are shown beside a text; raises FormatError if the task file has other labels than the run."""
    if task_file is None:
        return AnnotationGuide(dict.fromkeys(settings.labels, ""), target=target)
    task = load_task(task_file)
    if task.label_names != settings.labels:
        found, wanted = ", ".join(task.label_names), ", ".join(settings.labels)
        raise FormatError(
            Path(task_file), "labels", f"are {found}; those of the run are {wanted}: give the task that it was labelled for"
        )
    return annotation_guide(task)
