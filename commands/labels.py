"""`potstill labels`: soft labels from stored paths, without a new token."""

from __future__ import annotations

from pathlib import Path

import click

from commands import labels_export
from contract.soft_label import write_soft_labels
from labeler.aggregate import METHODS, soft_labels
from labeler.store import LabelStore
from labeler.summary import summary

FILE = click.Path(path_type=Path)


@click.group("labels")
def command() -> None:
    """Derive, inspect and export soft labels of a label store."""


command.add_command(labels_export.command)


@command.command("derive")
@click.argument("store", type=FILE)
@click.argument("soft_labels_file", metavar="SOFT_LABELS", type=FILE)
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True, help="How paths become soft labels.")
@click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")
def derive(store: Path, soft_labels_file: Path, method: str, number: int | None) -> None:
    """Write the soft labels of a STORE's run to SOFT_LABELS (.parquet or .jsonl)."""
    with LabelStore.read(store) as opened:
        rows = soft_labels(opened, opened.find_run(number), method)  # type: ignore[arg-type]  # click has checked the choice
    write_soft_labels(soft_labels_file, rows)
    click.echo(f"wrote {len(rows)} soft labels to {soft_labels_file}")


@command.command("summary")
@click.argument("store", type=FILE)
@click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")
def show(store: Path, number: int | None) -> None:
    """Compare what each method makes of a STORE's paths: label shares, agreement, scores on gold."""
    with LabelStore.read(store) as opened:
        click.echo(summary(opened, opened.find_run(number)))
