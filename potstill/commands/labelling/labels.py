"""`potstill labels`: soft labels from stored paths, without a new token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.commands.console.errors import FAILED
from potstill.commands.labelling import labels_check_pool, labels_export
from potstill.commands.options.derive import compare_options, derive_config, derive_options, tell_doubts
from potstill.contract.soft_label import write_soft_labels
from potstill.labeler.aggregation import soft_labels
from potstill.labeler.aggregation.summary import summary
from potstill.labeler.aggregation.summary_text import as_text
from potstill.labeler.store.integrity import check_store
from potstill.labeler.store.label_store import LabelStore

FILE = click.Path(path_type=Path)
run_option = click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")


@click.group("labels")
def command() -> None:
    """Derive, compare, check and export the soft labels of a label store, and check the texts to be labelled."""


command.add_command(labels_export.command)
command.add_command(labels_check_pool.command)


@command.command("derive")
@click.argument("store", type=FILE)
@click.argument("soft_labels_file", metavar="SOFT_LABELS", type=FILE)
@derive_options
@run_option
def derive(store: Path, soft_labels_file: Path, number: int | None, **options: Any) -> None:
    """Write the soft labels of a STORE's run to SOFT_LABELS (.parquet or .jsonl)."""
    with LabelStore.read(store) as opened:
        derived = soft_labels.derive(opened, opened.find_run(number), derive_config(options))
    write_soft_labels(soft_labels_file, derived.rows)
    tell_doubts(derived.warnings)
    click.echo(f"wrote {len(derived.rows)} soft labels to {soft_labels_file} ({derived.rows[0].method})")


@command.command("summary")
@click.argument("store", type=FILE)
@compare_options
@run_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def show(store: Path, number: int | None, as_json: bool, **options: Any) -> None:
    """Compare what each method makes of a STORE's paths: scores on gold, label shares, agreement, cost."""
    with LabelStore.read(store) as opened:
        found = summary(opened, opened.find_run(number), derive_config(options))
    tell_doubts(found.doubts)
    click.echo(msgspec.json.encode(found).decode() if as_json else as_text(found))


@command.command("check")
@click.argument("store", type=FILE)
@click.pass_context
def check(ctx: click.Context, store: Path) -> None:
    """Look for damage in a STORE: in the file, and in every path."""
    with LabelStore.read(store) as opened:
        found = check_store(opened)
    for fault in found.faults:
        click.echo(f"potstill: {store}: {fault}", err=True)
    if found.faults:
        ctx.exit(FAILED)
    click.echo("\n".join([f"{store}: sound; {found.counts[0]}", *(f"  {line}" for line in found.counts[1:])]))
