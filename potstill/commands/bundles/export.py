"""`potstill export`: a student to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.export.config import AUTO, CPUS, VARIANTS, ExportConfig
from potstill.export.run import export_bundle


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--max-drop", default=ExportConfig.max_drop, show_default=True, help="Largest accepted loss of macro-F1 from int8, 0 to 1."
)
@click.option(
    "--min-agreement", default=ExportConfig.min_agreement, show_default=True, help="Least share of texts that keep float's label."
)
@click.option(
    "--max-change", default=ExportConfig.max_change, show_default=True, help="Largest accepted change of a probability, 0 to 1."
)
@click.option(
    "--variant",
    type=click.Choice([AUTO, *VARIANTS]),
    default=ExportConfig.variant,
    show_default=True,
    help="Form to write; it must pass.",
)
@click.option(
    "--cpu",
    type=click.Choice(CPUS),
    default=ExportConfig.cpu,
    show_default=True,
    help="Where it will answer; on vnni alone, weights of full range may win.",
)
@click.option("--pool", help="Texts without labels, like those to come: for activation ranges, and to see which labels change.")
@click.option("--prune-vocab", metavar="TEXTS", help="Texts like those to come; pieces that none of them has leave the vocabulary.")
@click.option("--qat", is_flag=True, help="Where no int8 form passes, train the student against int8 for one pass and try again.")
@click.option("--threads", default=ExportConfig.threads, show_default=True, help="CPU threads while exporting.")
def command(checkpoint: Path, bundle: Path, **options: object) -> None:
    """Write CHECKPOINT as a BUNDLE in the fastest form that still agrees with it, and prove it."""
    click.echo(export_bundle(checkpoint, bundle, ExportConfig(**options)).as_text())  # type: ignore[arg-type]
