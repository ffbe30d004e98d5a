"""`potstill labels propose`: rules that are proposed from texts and judged on others, for a person to accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.progress import progress
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import refine_option
from potstill.commands.options.teacher import machine_options, teacher_config, teacher_options
from potstill.contract.errors import count_of
from potstill.labeler.weak_supervision.config import PROPOSERS, ProposeConfig

FILE = click.Path(path_type=Path)


@click.command("propose")
@click.argument("task", type=FILE)
@click.argument("store", type=FILE)
@click.argument("file", metavar="PROPOSALS", type=FILE)
@click.option(
    "--by",
    type=click.Choice(PROPOSERS),
    default=ProposeConfig.by,
    show_default=True,
    help="Words that stand in texts of which the teacher is sure, or words that the teacher names where it is not, or both.",
)
@click.option(
    "--accept",
    "names",
    multiple=True,
    metavar="NAME",
    help="Propose nothing, but add this rule of PROPOSALS to TASK, where it votes from then on; several times.",
)
@click.option("--run", type=int, help="Number of the run.  [default: the newest]")
@refine_option
@teacher_options
@machine_options
def command(task: Path, store: Path, file: Path, names: tuple[str, ...], **options: Any) -> None:
    """Propose rules for TASK from the texts of STORE, and write them to PROPOSALS (.json) with how they were judged.

    A rule is found in one half of the texts, and judged on the other.
    """
    from potstill.workflows.labels.rules import accept_rules, propose_rules

    if names:
        added = accept_rules(task, file, names)
        click.echo(f"added {count_of(len(added), 'rule')} to {task}: {', '.join(row.rule.name for row in added)}")
        return
    with progress("propose"):
        record = propose_rules(task, store, file, config_of(ProposeConfig, options), teacher_config(options), tell)
    click.echo(f"{record.as_text()}\n\nwrote {file}; accept rules with --accept NAME")
