"""`potstill labels export`: soft labels for Label Studio, Argilla, or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.commands.options.derive import derive_config, derive_options, tell_doubts
from potstill.contract.errors import FormatError
from potstill.contract.interchange.annotation import AnnotationGuide, annotation_guide
from potstill.contract.interchange.review_export import REVIEW_FORMATS, REVIEW_ORDERS, ReviewConfig, write_review
from potstill.contract.task import load_task
from potstill.labeler.aggregation import soft_labels
from potstill.labeler.store.label_store import LabelStore, RunSettings

FILE = click.Path(path_type=Path)


@click.command("export")
@click.argument("store", type=FILE)
@click.argument("file", type=FILE)
@click.option(
    "--format", "form", type=click.Choice(REVIEW_FORMATS), default=ReviewConfig.form, show_default=True, help="Whose format."
)
@click.option(
    "--by", type=click.Choice(REVIEW_ORDERS), default=ReviewConfig.by, show_default=True, help="Most uncertain first, or by id."
)
@click.option("--task", type=FILE, help="Task file; its question, guideline and meanings are then shown to the reviewers.")
@derive_options
@click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")
def command(store: Path, file: Path, form: str, by: str, task: Path | None, number: int | None, **options: Any) -> None:
    """Write the soft labels of a STORE's run to FILE for people to review, or as a table.

    For label-studio and argilla FILE is a .json, the project's settings are written beside it, and texts with gold are left out.
    For datasets FILE is a new folder.
    """
    with LabelStore.read(store) as opened:
        run = opened.find_run(number)
        derived = soft_labels.derive(opened, run, derive_config(options))
    tell_doubts(derived.warnings)
    rows = derived.rows
    guide = _guide(task, run.settings, any(row.target for row in rows))
    config = ReviewConfig(form, by)  # type: ignore[arg-type]  # click has checked both
    click.echo(write_review(file, rows, guide, f"{run.settings.teacher} {rows[0].method}", config).as_text())


def _guide(task_file: Path | None, settings: RunSettings, target: bool) -> AnnotationGuide:
    """What the reviewers are told; raises FormatError if the task file has other labels than the run."""
    if task_file is None:
        return AnnotationGuide(dict.fromkeys(settings.labels, ""), target=target)
    task = load_task(task_file)
    if task.label_names != settings.labels:
        found, wanted = ", ".join(task.label_names), ", ".join(settings.labels)
        raise FormatError(
            task_file, "labels", f"are {found}; those of the run are {wanted}: give the task that it was labelled for"
        )
    return annotation_guide(task)
