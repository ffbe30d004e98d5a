"""`potstill task check`: whether a task file is sound."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.contract.task import load_task


@click.command("check")
@click.argument("task", type=click.Path(path_type=Path))
def command(task: Path) -> None:
    """Say whether TASK is a sound task file, and its digest."""
    loaded = load_task(task)
    click.echo(f"{task}: sound; {len(loaded.labels)} labels, {len(loaded.examples)} worked examples, digest {loaded.digest}")
