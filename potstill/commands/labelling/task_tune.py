"""`potstill task tune`: which way to ask does best on texts with gold."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from potstill.commands.console.label_progress import label_progress
from potstill.commands.console.signals import heeding_sigterm
from potstill.commands.labelling import label
from potstill.commands.options.derive import backbone_option
from potstill.commands.options.prompt import examples_per_label_option
from potstill.commands.options.teacher import machine_options, teacher_options
from potstill.contract.errors import StoppedError
from potstill.contract.files import atomic
from potstill.contract.project import TEACHER
from potstill.contract.task import Task, load_task
from potstill.labeler.config import EXAMPLES, TEMPLATES
from potstill.labeler.teachers.local_teacher import LocalConfig
from potstill.labeler.teachers.opening import open_teacher
from potstill.labeler.tuning.candidates import TuneConfig
from potstill.labeler.tuning.gold_split import MOST, GoldHalves, gold_halves
from potstill.labeler.tuning.report import as_text, full_name, judged, tuned_settings, tuned_toml
from potstill.labeler.tuning.tune import Tuned, tune

FILE = click.Path(path_type=Path)
WINNER_FILE = "tuned.toml"
KEPT = ("pack", "model", "concurrency")  # options about the teacher that labelling needs, too


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
    help="Choice of worked examples to try; may be repeated.  [default: all]",
)
@click.option(
    "--template",
    "templates",
    type=click.Choice(TEMPLATES),
    multiple=True,
    default=TuneConfig.templates,
    help="Form of the prompt to try; may be repeated.  [default: all]",
)
@click.option("--cot/--no-cot", default=TuneConfig.cot, show_default=True, help="Try answers after a rationale, too.")
@examples_per_label_option
@click.option("--seed", default=TuneConfig.seed, show_default=True, help="Of the variants and the rationales.")
@click.option("--max-texts", default=MOST, show_default=True, help="Gold texts to use at most, at least 20.")
@backbone_option
@machine_options
def command(task: Path, gold: Path, out: Path, max_texts: int, **options: Any) -> None:
    """Try ways to ask about TASK on the texts of GOLD, compare them, and write the best one's settings to OUT/tuned.toml.

    Compared are prompts (form, guideline, worked examples), numbers of answers, answers after a rationale, and how soft labels are
    derived. Every answer is kept in OUT/tune.db: stopped and started again, it goes on where it was.
    """
    loaded = load_task(task)
    halves = gold_halves(loaded, gold, max_texts)
    config = TuneConfig(**{field.name: options.pop(field.name) for field in fields(TuneConfig)})
    found = _tuned(loaded, halves, out, config, options)
    click.echo(as_text(found))
    settings = tuned_settings(found.choice.winner)
    settings |= {name: options[name] for name in KEPT if options[name] not in (None, "auto")}
    atomic.write_file(out / WINNER_FILE, tuned_toml(settings, _remarks(found, gold, options["teacher"])).encode())
    click.echo(f"\nwrote {out / WINNER_FILE}, a table for project.toml; as options of potstill label:")
    click.echo(f"  {label_options(settings, options['teacher'], gold)}")


def _tuned(task: Task, halves: GoldHalves, out: Path, config: TuneConfig, options: Mapping[str, Any]) -> Tuned:
    """What is found with the teacher of the options, which is open meanwhile. SIGTERM stops it as Ctrl-C does."""
    tell = partial(click.echo, err=True)
    with heeding_sigterm():
        try:
            local = LocalConfig(options["threads"], n_live_paths=options["parallel"])
            server = {"model": options["model"], "concurrency": options["concurrency"]}
            teacher = open_teacher(options["teacher"], pack=options["pack"], config=local, **server, tell=tell)
            try:
                with label_progress() as show:
                    return tune(task, halves, out, teacher, config, show, tell)
            finally:
                teacher.close()
        except KeyboardInterrupt as stop:
            raise StoppedError(f"stopped; what is answered is kept in {out}; the same command goes on from there") from stop


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


def _remarks(tuned: Tuned, gold: Path, teacher: str) -> list[str]:
    """What a reader of the settings should know."""
    remarks = [
        "The [label] table of a project.toml, chosen by: potstill task tune",
        f"teacher {teacher}, {int(tuned.answered.sum())} texts of {gold.name}: {full_name(tuned.choice.winner)}",
        f"on the {int(tuned.judges.sum())} texts that had no say: {judged(tuned)}",
    ]
    if tuned.choice.winner.derive.method == "affine":
        remarks.append("method affine is fitted on gold texts: the project must name some")
    return remarks
