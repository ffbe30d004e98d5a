"""`potstill task`: check a task file, and see exactly what the teacher reads."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from contract.task import load_task
from labeler import prompt
from labeler.config import LabelConfig
from labeler.teacher import Mode

FILE = click.Path(path_type=Path)


@click.group("task")
def command() -> None:
    """Check a task file and show its prompt."""


@command.command("check")
@click.argument("task", type=FILE)
def check(task: Path) -> None:
    """Say whether TASK is a sound task file, and its digest."""
    loaded = load_task(task)
    click.echo(f"{task}: sound; {len(loaded.labels)} labels, {len(loaded.examples)} worked examples, digest {loaded.digest}")


@command.command("show")
@click.argument("task", type=FILE)
@click.argument("text")
@click.option("--target", help="What the text is about, where the task has targets.")
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default=LabelConfig.mode,
    show_default=True,
    help="Reason first, or answer at once.",
)
@click.option("--variant", default=0, show_default=True, help="Which order and choice of worked examples, from 0.")
def show(task: Path, text: str, target: str | None, mode: Mode, variant: int) -> None:
    """Print the exact prompt that the teacher of TASK reads for TEXT."""
    loaded = load_task(task)
    made = prompt.variants(loaded, variant + 1, LabelConfig.n_examples_per_label, LabelConfig.seed)[-1]
    click.echo(prompt.prefix(loaded, made, mode) + prompt.block(loaded, text, target, mode))
