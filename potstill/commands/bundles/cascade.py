"""`potstill cascade`: two bundles joined, the fast one first."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.serve.offline.cascade import CascadeConfig, cascade_bundle

PATH = click.Path(path_type=Path)


@click.command("cascade")
@click.argument("fast", type=PATH)
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--max-loss",
    default=CascadeConfig.max_loss,
    show_default=True,
    help="Macro-F1 that may be lost where TEXTS have gold labels, else agreement with BUNDLE; from 0 to 1.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=CascadeConfig.workers, help="Texts at once.  [default: usable cores]"
)
def command(fast: Path, bundle: Path, texts: Path, out: Path, max_loss: float, workers: int | None) -> None:
    """Write OUT, a bundle in which FAST (a static student, say) answers what it is sure of, and BUNDLE the rest.

    When FAST is sure enough is chosen on TEXTS, which neither of them was trained on.
    """
    report = cascade_bundle(fast, bundle, texts, out, CascadeConfig(max_loss=max_loss, workers=workers))
    if report.skipped:
        click.echo(report.skipped, err=True)
    click.echo(report.as_text())
