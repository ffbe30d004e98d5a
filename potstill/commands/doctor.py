"""`potstill doctor`: what this machine has, what is installed, and what is wrong."""

from __future__ import annotations

import click

from potstill.workflows.doctor import checkup


@click.command("doctor")
def command() -> None:
    """Show what this machine and the installed libraries can do, and what is wrong with them.

    It looks at cores, memory and disk, at the installed llama.cpp and the GPUs that it can use, at the versions of libraries, and
    at what earlier runs left in the user's cache folder, with the command that deletes it.
    It works where parts of potstill are not installed.
    """
    click.echo(checkup().as_text())
