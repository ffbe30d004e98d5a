"""`potstill demo`: the whole pipeline on the example that comes with potstill."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.progress import progress
from potstill.workflows import demonstration, pipeline, scores


@click.command("demo")
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder that takes everything.")
def command(out: Path) -> None:
    """Label, train, export and measure on the example's posts, with the two embedded models, in some minutes."""
    project = demonstration.prepare(out)
    outcome = pipeline.run(project, click.echo, progress)
    measured = scores.measure(outcome)
    demonstration.write_summary(out, outcome, measured)
    click.echo(demonstration.report(out, outcome, measured))
