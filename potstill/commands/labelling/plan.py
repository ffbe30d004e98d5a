"""`potstill plan`: what can be labelled on this machine in some hours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from potstill.commands.console.errors import heeding_sigterm
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import backbone_option, mode_option, prompt_options
from potstill.commands.options.teacher import machine_options, teacher_config
from potstill.labeler.config import LabelConfig, PlanConfig

FILE = click.Path(path_type=Path)


@click.command("plan")
@click.argument("task", type=FILE)
@click.argument("texts", type=FILE)
@click.option("--hours", type=float, required=True, help="Time for labelling, in hours, above 0; may be a fraction.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    help="Teacher to plan with: a name, a GGUF file or a server's address; repeatable.  "
    "[default: those of `potstill models list` that are here or would fit into memory]",
)
@mode_option
@click.option("--paths", "n_paths", type=int, help="Answers per text.  [default: as many as fit]")
@click.option(
    "--tuned",
    type=FILE,
    multiple=True,
    help="Folder of `potstill task tune`, for the prompt and the scores of its teacher; repeatable.",
)
@click.option(
    "--measure",
    "measure_s",
    default=PlanConfig.measure_s,
    show_default=True,
    help="Seconds to measure, for all teachers together.",
)
@click.option(
    "--enough",
    "n_enough",
    default=PlanConfig.n_enough,
    show_default=True,
    help="Number of texts from which better labels are preferred to more of them.",
)
@prompt_options
@backbone_option
@machine_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    task: Path, texts: Path, teachers: tuple[str, ...], tuned: tuple[Path, ...], backbone: str, as_json: bool, **options: Any
) -> None:
    """Say what can be labelled of TEXTS for TASK in the given HOURS on this machine: texts, paths and mode for each teacher.

    It measures each teacher for a part of a minute. `potstill label --hours` then does what it says.
    """
    from potstill.workflows import planning

    asked = [teacher_config({**options, "teacher": name}) for name in teachers]
    label = config_of(LabelConfig, {**options, "n_paths": LabelConfig.n_paths})
    config, tell = config_of(PlanConfig, options), partial(click.echo, err=True)
    with heeding_sigterm():
        found = planning.plan(task, texts, config, label, teachers=asked, tuned=tuned, backbone=backbone, tell=tell)
    click.echo(found.as_json() if as_json else found.as_text())
