"""`potstill label`: texts to a label store and soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from commands import labelling
from commands.progress import progress
from contract.task import load_task
from labeler.aggregate import METHODS
from labeler.open import Pack
from labeler.run import LabelConfig
from labeler.teacher import Mode

FILE = click.Path(path_type=Path)


@click.command("label")
@click.argument("task", type=FILE)
@click.argument("texts", type=FILE)
@click.argument("out", type=FILE)
@click.option("--gold", type=FILE, help="Texts with a gold label: labelled too, for scores, but kept apart from the others.")
@click.option(
    "--teacher", default=labelling.TEACHER, show_default=True, help="Teacher: a name of `potstill models list`, or a GGUF file."
)
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    default=LabelConfig.mode,
    show_default=True,
    help="Reason first, or answer at once.",
)
@click.option("--paths", "n_paths", default=LabelConfig.n_paths, show_default=True, help="Answers per text.")
@click.option("--variants", "n_variants", type=int, help="Prompts to share the paths among.  [default: paths in direct, 1 in cot]")
@click.option("--temperature", default=LabelConfig.temperature, show_default=True, help="Of the sampled rationales, above 0.")
@click.option("--seed", default=LabelConfig.seed, show_default=True, help="Of the variants and the rationales.")
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True, help="How paths become soft labels.")
@click.option("--pack", type=click.Choice(get_args(Pack)), default="auto", show_default=True, help="Re-pack the teacher's weights.")
@click.option("--threads", type=int, help="CPU threads.  [default: all usable]")
@click.option("--new-run", is_flag=True, help="Label again beside the runs that OUT holds.")
def command(task: Path, texts: Path, out: Path, gold: Path | None, **options: object) -> None:
    """Label TEXTS for TASK into the folder OUT: labels.db with every path, soft_labels.parquet for training."""
    plan = labelling.plan(load_task(task), texts, gold, out, options)
    with progress("texts", plan.config.n_paths) as show:
        click.echo(labelling.run(plan, show).as_text())
