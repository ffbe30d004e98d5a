"""The options that say which teacher answers and how much of the machine it takes, once for the commands that ask one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from potstill.contract.project import TEACHER
from potstill.labeler.teachers.openai_client import ServerConfig
from potstill.labeler.teachers.opening import Pack

F = TypeVar("F", bound=Callable[..., Any])

_WHO = (
    click.option(
        "--teacher",
        default=TEACHER,
        show_default=True,
        help="Teacher: a name of `potstill models list`, a GGUF file, or a server's address, such as http://127.0.0.1:8000/v1.",
    ),
    click.option("--model", help="The server's model.  [default: its only one]"),
    click.option("--concurrency", type=int, help=f"Requests at the server at once.  [default: {ServerConfig.concurrency}]"),
)
_HOW = (
    click.option(
        "--pack", type=click.Choice(get_args(Pack)), default="auto", show_default=True, help="Re-pack the teacher's weights."
    ),
    click.option("--threads", type=int, help="CPU threads.  [default: measured]"),
    click.option("--parallel", type=int, help="Sampled paths to step at once.  [default: measured]"),
)


def teacher_options(command: F) -> F:
    """The command with those that name the teacher, listed in that order."""
    for option in reversed(_WHO):
        command = option(command)
    return command


def machine_options(command: F) -> F:
    """The command with those about this machine, listed in that order."""
    for option in reversed(_HOW):
        command = option(command)
    return command
