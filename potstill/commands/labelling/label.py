"""`potstill label`: texts to a label store and soft labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from potstill.commands.console.label_progress import label_progress
from potstill.commands.options.derive import derive_options
from potstill.commands.options.prompt import prompt_options
from potstill.commands.options.teacher import machine_options, teacher_options
from potstill.contract.task import load_task
from potstill.labeler.config import RUN_MODES, LabelConfig
from potstill.labeler.run.adaptive import BOUND
from potstill.workflows import labelling

FILE = click.Path(path_type=Path)


@click.command("label")
@click.argument("task", type=FILE)
@click.argument("texts", type=FILE)
@click.argument("out", type=FILE)
@click.option("--gold", type=FILE, help="Texts with a gold label: labelled too, for scores, but kept apart from the others.")
@teacher_options
@click.option(
    "--mode",
    type=click.Choice(RUN_MODES),
    default=LabelConfig.mode,
    show_default=True,
    help="Reason first; answer at once; or answer at once and reason only about uncertain texts.",
)
@click.option("--paths", "n_paths", default=LabelConfig.n_paths, show_default=True, help="Answers per text, at most.")
@click.option("--variants", "n_variants", type=int, help="Prompts to share the paths among.  [default: paths in direct, 1 in cot]")
@click.option("--direct", "n_direct", default=LabelConfig.n_direct, show_default=True, help="Direct answers per text in cascade.")
@click.option(
    "--uncertain", default=LabelConfig.uncertain, show_default=True, help="Share of texts to reason about in cascade, 0 to 1."
)
@click.option(
    "--adaptive",
    "bound",
    is_flag=False,
    flag_value=BOUND,
    default=LabelConfig.bound,
    type=float,
    help=f"Stop a text's paths when its leading label leads with this probability, 0.5 to 1.  [{BOUND} if no number is given]",
)
@prompt_options
@click.option("--temperature", default=LabelConfig.temperature, show_default=True, help="Of the sampled rationales, above 0.")
@click.option("--seed", default=LabelConfig.seed, show_default=True, help="Of the variants and the rationales.")
@click.option("--deterministic", is_flag=True, help="The same paths bit for bit, also after a kill; slower.")
@derive_options
@machine_options
@click.option("--dry-run", is_flag=True, help="Only say how many tokens and how much time it would take here.")
@click.option("--new-run", is_flag=True, help="Label again beside the runs that OUT holds.")
def command(task: Path, texts: Path, out: Path, gold: Path | None, dry_run: bool, **options: object) -> None:
    """Label TEXTS for TASK into the folder OUT: labels.db with every path, soft_labels.parquet for training."""
    plan = labelling.plan(load_task(task), texts, gold, out, options)
    tell = partial(click.echo, err=True)
    if dry_run:
        click.echo(labelling.dry_run(plan, tell).as_text())
        return
    with label_progress() as show:
        click.echo(labelling.run(plan, show, tell).as_text())
