"""`potstill export`: a checkpoint to a proved bundle."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.progress import progress
from potstill.commands.options.configs import config_of
from potstill.export.config import AUTO, CPUS, VARIANTS, ExportConfig


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--max-drop", default=ExportConfig.max_drop, show_default=True, help="Largest accepted loss of macro-F1 through int8, 0 to 1."
)
@click.option(
    "--min-agreement",
    default=ExportConfig.min_agreement,
    show_default=True,
    help="Smallest accepted share of texts that keep float's label, 0 to 1.",
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
    help="CPU that it will answer on; only with vnni, weights of full range compete too.",
)
@click.option(
    "--pool",
    help="File of texts without labels, like those to come: calibration set for int8, and a test of which labels change.",
)
@click.option(
    "--prune-vocab",
    metavar="TEXTS",
    help="File of texts like those to come; tokens that none of them has are removed from the vocabulary.",
)
@click.option(
    "--qat", is_flag=True, help="If no int8 form passes, train the student with simulated int8 for one epoch and try again."
)
@click.option(
    "--unfamiliar-rate",
    default=ExportConfig.unfamiliar_rate,
    show_default=True,
    help="Share of texts like the pool's that may be called unfamiliar, above 0 and below 1.",
)
@click.option("--threads", default=ExportConfig.threads, show_default=True, help="CPU threads while exporting.")
def command(checkpoint: Path, bundle: Path, **options: object) -> None:
    """Write CHECKPOINT as a BUNDLE in the fastest form that still agrees with it, and prove it."""
    from potstill.export.run import export_bundle  # loads torch, which the help does without

    with progress("export", timed=True) as show:
        report = export_bundle(checkpoint, bundle, config_of(ExportConfig, options), show)
    click.echo(report.as_text())
