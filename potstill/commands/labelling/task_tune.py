"""`potstill task tune`: find the way to ask that does best on texts with gold."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from potstill.commands.console.errors import heeding_sigterm, tell
from potstill.commands.console.progress import label_progress
from potstill.commands.labelling import label
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import backbone_option, examples_per_label_option
from potstill.commands.options.teacher import machine_options, teacher_config, teacher_options
from potstill.contract.project import TEACHER
from potstill.labeler.config import EXAMPLES, TEMPLATES
from potstill.labeler.tuning.config import MOST, TuneConfig

FILE = click.Path(path_type=Path)


@click.command("tune")
@click.argument("task", type=FILE)
@click.argument("gold", type=FILE)
@click.argument("out", type=FILE)
@teacher_options
@click.option(
    "--examples",
    type=click.Choice(EXAMPLES),
    multiple=True,
    default=TuneConfig.examples,
    help="Choice of worked examples to try; repeatable.  [default: all]",
)
@click.option(
    "--template",
    "templates",
    type=click.Choice(TEMPLATES),
    multiple=True,
    default=TuneConfig.templates,
    help="Prompt format to try; repeatable.  [default: all]",
)
@click.option("--cot/--no-cot", default=TuneConfig.cot, show_default=True, help="Whether to try answers after a rationale, too.")
@click.option(
    "--wording", "wordings", type=FILE, multiple=True, help="Task file that asks the same in other words, to try too; repeatable."
)
@click.option(
    "--rewrites",
    default=TuneConfig.rewrites,
    show_default=True,
    help="Guidelines that the teacher writes in other words, to try too, at least 0.",
)
@examples_per_label_option
@click.option("--seed", default=TuneConfig.seed, show_default=True, help="Random seed of prompt variants and rationales.")
@click.option("--max-texts", default=MOST, show_default=True, help="Gold texts to use at most, at least 20.")
@backbone_option
@machine_options
def command(task: Path, gold: Path, out: Path, wordings: tuple[Path, ...], max_texts: int, **options: Any) -> None:
    """Try ways to ask about TASK on the texts of GOLD, compare them, and write the best one's settings to OUT/tuned.toml.

    It compares wordings of the task, where there are several, prompts (template, guideline, worked examples), numbers of answers,
    answers after a rationale, and ways to derive soft labels. Every answer is kept in OUT/tune.db: stopped and started again, it
    goes on where it was.
    """
    from potstill.workflows.tuning import tune_prompt

    config, teacher = config_of(TuneConfig, options), teacher_config(options)
    with heeding_sigterm(), label_progress() as progress:
        found = tune_prompt(
            task, gold, out, config, wordings=wordings, max_texts=max_texts, teacher=teacher, progress=progress, tell=tell
        )
    click.echo(found.as_text())
    if found.task_file:
        click.echo(f"\nthe best wording of the task is that of {found.task_file}: use it in place of {task}")
    click.echo(f"\nwrote {found.file}, a table for project.toml; as options of potstill label:")
    click.echo(f"  {label_options(found.settings, teacher.name, gold)}")


def label_options(settings: Mapping[str, Any], teacher: str, gold: Path) -> str:
    """The settings as `potstill label` takes them."""
    words = [] if teacher == TEACHER else ["--teacher", teacher]
    for option in label.command.params:
        if option.name not in settings:
            continue
        value = settings[option.name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            words += [option.opts[0], str(value)]
    if settings["method"] == "affine":  # which is fitted on gold
        words += ["--gold", str(gold)]
    return shlex.join(words)
