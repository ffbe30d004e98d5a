"""`potstill init` and `potstill task`: write a task file, check it, show its prompt, and find the best way to ask."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.lazy import LazyGroup, Row
from potstill.contract.errors import count_of
from potstill.contract.questions.questionnaire import Questionnaire, load_any_task, missing_of
from potstill.contract.task import missing
from potstill.labeler.candidates import many_labels
from potstill.labeler.config import LabelConfig
from potstill.workflows.example_files import write_templates

FILE = click.Path(path_type=Path)
ROWS: dict[str, Row] = {
    "show": Row("potstill.commands.labelling.task_show", "Print the exact prompt that the teacher of TASK reads for TEXT.", None),
    "tune": Row("potstill.commands.labelling.task_tune", "Find the mode and the prompt that do best on texts with gold.", "label"),
}


@click.command("init")
@click.argument("folder", type=FILE)
def init(folder: Path) -> None:
    """Write a commented task, project and text file into FOLDER."""
    names = write_templates(folder)
    click.echo(f"wrote {', '.join(names)} into {folder}")
    click.echo(f"next: edit task.toml and texts.jsonl, then: potstill run {folder / 'project.toml'}")


@click.command("task", cls=LazyGroup, rows=ROWS)
def command() -> None:
    """Check a task file, show its prompt, and choose how to ask."""


@command.command("check")
@click.argument("task", type=FILE)
def check(task: Path) -> None:
    """Check that TASK is a sound task file, and print its digest."""
    loaded = load_any_task(task)
    asked = (
        count_of(len(loaded.questions), "question") if isinstance(loaded, Questionnaire) else count_of(len(loaded.labels), "label")
    )
    if not isinstance(loaded, Questionnaire) and loaded.wordings:
        asked += f", {len(loaded.wordings) + 1} wordings"
    click.echo(f"{task}: sound; {asked}, {len(loaded.examples)} worked examples, digest {loaded.digest}")
    notes = missing_of(loaded) if isinstance(loaded, Questionnaire) else missing(loaded)
    tasks = [ask.task for ask in loaded.asks()] if isinstance(loaded, Questionnaire) else [loaded]
    for line in [*notes, *(line for one in tasks for line in many_labels(one, LabelConfig()))]:
        tell(f"note: {line}")
