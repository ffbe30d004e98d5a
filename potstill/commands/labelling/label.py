"""`potstill label`: texts to a label store and soft labels."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import heeding_sigterm, tell
from potstill.commands.console.progress import label_progress
from potstill.commands.options.cluster import actors_option, engine_option, threads_per_actor_option
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import derive_options, mode_option, prompt_options
from potstill.commands.options.teacher import (
    machine_options,
    second_teacher_options,
    teacher_config,
    teacher_options,
)
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import BOUND, LabelConfig
from potstill.labeler.teachers.config import ThenSettings

FILE = click.Path(path_type=Path)


@click.command("label")
@click.argument("task", type=FILE)
@click.argument("texts")
@click.argument("out", type=FILE)
@click.option("--gold", type=FILE, help="Texts with gold labels: labelled too, but kept apart from the others, for scores only.")
@teacher_options
@mode_option
@click.option("--paths", "n_paths", default=LabelConfig.n_paths, show_default=True, help="Answers per text, at most.")
@click.option(
    "--variants",
    "n_variants",
    type=int,
    help="Prompt variants that share the paths.  [default: as many as paths in mode direct, 1 in cot]",
)
@click.option(
    "--direct",
    "n_direct",
    default=LabelConfig.n_direct,
    show_default=True,
    help="Direct answers per text in mode cascade, before any reasoning.",
)
@click.option(
    "--uncertain",
    default=LabelConfig.uncertain,
    show_default=True,
    help="Share of the texts to reason about in mode cascade, 0 to 1.",
)
@click.option(
    "--adaptive",
    "bound",
    is_flag=False,
    flag_value=BOUND,
    default=LabelConfig.bound,
    type=float,
    help=f"Stop asking about a text once its label stays ahead with this probability, above 0.5.  [{BOUND} if no number is given]",
)
@prompt_options
@click.option(
    "--first-look",
    type=int,
    default=LabelConfig.first_look,
    show_default=True,
    help="Where the task has more than 20 labels: ask the teacher about groups of at most so many labels first, without worked "
    "examples, and choose the candidates by that and similarity (without the extra train by that alone); 0: by similarity alone.",
)
@click.option(
    "--temperature", default=LabelConfig.temperature, show_default=True, help="Sampling temperature of rationales, above 0."
)
@click.option("--seed", default=LabelConfig.seed, show_default=True, help="Random seed of prompt variants and rationales.")
@click.option("--deterministic", is_flag=True, help="Draw the same paths bit for bit, also after a kill; slower.")
@derive_options
@machine_options
@engine_option
@actors_option
@threads_per_actor_option
@second_teacher_options
@click.option(
    "--hours",
    type=float,
    help="Label as many texts as that time allows, in random order, and end in time.  [default: all texts]",
)
@click.option("--dry-run", is_flag=True, help="Only estimate tokens and time on this machine.")
@click.option("--new-run", is_flag=True, help="Label again, beside the runs that OUT holds.")
def command(task: Path, texts: str, out: Path, gold: Path | None, hours: float | None, dry_run: bool, **options: object) -> None:
    """Label TEXTS for TASK into the folder OUT: labels.db with every path, soft_labels.parquet for training."""
    from potstill.workflows import labelling
    from potstill.workflows.teacher import second_teacher

    config, derive, teacher = config_of(LabelConfig, options), config_of(DeriveConfig, options), teacher_config(options)
    then = second_teacher(config_of(ThenSettings, options), teacher)
    with heeding_sigterm():
        if dry_run:
            found = labelling.label_forecast(task, texts, config, gold=gold, teacher=teacher, derive=derive, tell=tell)
            click.echo(found.as_text())
            return
        with label_progress() as progress:
            plan = labelling.plan_labelling(task, texts, config, gold=gold, teacher=teacher, derive=derive, then=then, hours=hours)
            report = labelling.label_plan(plan, out, progress, tell)
            click.echo(report.as_text())
