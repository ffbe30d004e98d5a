"""`potstill run`: the chain over your own project."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.progress import progress
from potstill.workflows import pipeline, scores


@click.command("run")
@click.argument("project", type=click.Path(path_type=Path))
def command(project: Path) -> None:
    """Label, train, export and measure what PROJECT (a project.toml) names; skip what has not changed."""
    outcome = pipeline.run(project, click.echo, progress)
    if outcome.plan.gold:
        click.echo(scores.table(scores.measure(outcome)))
    click.echo(
        f"\nthe bundle is in {outcome.bundle}; try it: potstill predict {outcome.bundle} TEXTS, or: potstill serve {outcome.bundle}"
    )
