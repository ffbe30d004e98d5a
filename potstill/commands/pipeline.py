"""`potstill demo` and `potstill run`: the whole chain, on the example that comes with potstill or on a project of your own."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import heeding_sigterm
from potstill.commands.console.progress import label_progress, progress, train_progress
from potstill.workflows.example_files import write_demo_project


@click.command("demo")
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder for everything it writes.")
def demo(out: Path) -> None:
    """Label, train, export and measure on the example's posts, with the two embedded models, in a few minutes."""
    from potstill.workflows import results  # these load torch, which the help does without
    from potstill.workflows.pipeline import StageProgress, run_project

    with heeding_sigterm():
        finished = run_project(write_demo_project(out), click.echo, StageProgress(label_progress, train_progress, progress))
        scored = results.score_beside(finished, results.score(finished))
        bench = results.time_bundle(finished)
        results.write_demo_summary(out, finished, scored, bench)
        click.echo(results.demo_report(out, finished, scored, bench))


@click.command("run")
@click.argument("project", type=click.Path(path_type=Path))
def run(project: Path) -> None:
    """Label, train, export and measure what PROJECT (a project.toml) names; skip what has not changed."""
    from potstill.workflows import results
    from potstill.workflows.pipeline import StageProgress, run_project

    with heeding_sigterm():
        finished = run_project(project, click.echo, StageProgress(label_progress, train_progress, progress))
        if finished.plan.gold:
            click.echo(results.scores_text(finished))
    bundle = finished.bundle
    click.echo(f"\nthe bundle is in {bundle}; try it: potstill predict {bundle} TEXTS, or: potstill serve {bundle}")
