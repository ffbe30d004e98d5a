"""`potstill adapt`: a bundle for texts with other label shares."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.serve.offline.adapt import AdaptConfig, adapt_bundle


@click.command("adapt")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("texts", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new bundle.")
@click.option("--level", default=AdaptConfig.level, show_default=True, help="Of significance, 0 to 1; 1 adapts in any case.")
@click.option("--workers", type=click.IntRange(min=1), default=AdaptConfig.workers, help="Texts at once.  [default: usable cores]")
def command(bundle: Path, texts: Path, out: Path, level: float, workers: int | None) -> None:
    """Estimate the label shares of TEXTS, which need no labels, and write BUNDLE again for them."""
    report = adapt_bundle(bundle, texts, out, AdaptConfig(level=level, workers=workers))
    if report.skipped:
        click.echo(report.skipped, err=True)
    click.echo(report.as_text())
