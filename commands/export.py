"""`potstill export`: a student to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from export.config import AUTO, VARIANTS, ExportConfig
from export.run import export_bundle


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--max-drop", default=ExportConfig.max_drop, show_default=True, help="Largest accepted loss of macro-F1 from int8, from 0 to 1."
)
@click.option(
    "--min-agreement", default=ExportConfig.min_agreement, show_default=True, help="Least share of texts that keep float's label."
)
@click.option(
    "--variant",
    type=click.Choice([AUTO, *VARIANTS]),
    default=ExportConfig.variant,
    show_default=True,
    help="Form to write; it must pass.",
)
@click.option("--threads", default=ExportConfig.threads, show_default=True, help="CPU threads while exporting.")
def command(checkpoint: Path, bundle: Path, max_drop: float, min_agreement: float, variant: str, threads: int) -> None:
    """Write CHECKPOINT as an int8 BUNDLE, and prove that it still agrees."""
    config = ExportConfig(max_drop=max_drop, min_agreement=min_agreement, variant=variant, threads=threads)
    click.echo(export_bundle(checkpoint, bundle, config).as_text())
