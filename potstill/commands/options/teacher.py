"""The options that say which teacher answers and how much of the machine it may use, for the commands that ask one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import click

from potstill.commands.options.configs import config_of, stacked
from potstill.labeler.teacher import APIS
from potstill.labeler.teachers.openai_client import ServerConfig
from potstill.labeler.teachers.opening import Pack
from potstill.workflows.teacher import TeacherConfig

F = TypeVar("F", bound=Callable[..., Any])

_WHO = (
    click.option(
        "--teacher",
        default=TeacherConfig.name,
        show_default=True,
        help="Teacher: a name of `potstill models list`, a GGUF file, or a server's address, such as http://127.0.0.1:8000/v1.",
    ),
    click.option("--model", help="Id of the server's model.  [default: its only one]"),
    click.option(
        "--api",
        type=click.Choice(APIS),
        default=TeacherConfig.api,
        show_default=True,
        help="How a server is asked: to continue a text (completions, ollama), in a conversation (chat), or for a decision "
        "(decisions, systemone); auto takes the first of these that gives probabilities.",
    ),
    click.option("--concurrency", type=int, help=f"Requests at the server at once.  [default: {ServerConfig.concurrency}]"),
)
_HOW = (
    click.option(
        "--pack",
        type=click.Choice(get_args(Pack)),
        default=TeacherConfig.pack,
        show_default=True,
        help="Type to re-pack the teacher's weights to.",
    ),
    click.option("--threads", type=int, help="CPU threads.  [default: measured]"),
    click.option("--parallel", type=int, help="Sampled paths that are decoded at once.  [default: measured]"),
)


def teacher_options(command: F) -> F:
    """The command with the options that name the teacher."""
    return stacked(command, _WHO)


def machine_options(command: F) -> F:
    """The command with the options about this machine."""
    return stacked(command, _HOW)


def teacher_config(options: Mapping[str, Any]) -> TeacherConfig:
    """The teacher's configuration in a command's options, which may hold others; raises UserError."""
    return config_of(TeacherConfig, {**options, "name": options["teacher"]})
