"""`potstill task`: what belongs to one task file, each command in a file of its own."""

from __future__ import annotations

import click

from potstill.commands.console.lazy import LazyGroup, Row

ROWS: dict[str, Row] = {
    "check": Row("potstill.commands.labelling.task_check", "Say whether TASK is a sound task file, and its digest.", None),
    "show": Row("potstill.commands.labelling.task_show", "Print the exact prompt that the teacher of TASK reads for TEXT.", None),
    "tune": Row("potstill.commands.labelling.task_tune", "Find the mode and the prompt that do best on texts with gold.", "label"),
}


@click.command("task", cls=LazyGroup, rows=ROWS)
def command() -> None:
    """Check a task file, show its prompt, and choose how to ask."""
