"""The options that say which teacher answers and how much of the machine it may use, for the commands that ask one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import click

from potstill.commands.options.configs import config_of, stacked
from potstill.labeler.config import MODES, Pack, ServerConfig
from potstill.labeler.teacher import APIS
from potstill.labeler.teachers.config import TeacherConfig, ThenSettings
from potstill.models.devices import AUTO_LAYERS
from potstill.models.memory import KV_TYPES


class GpuLayersType(click.ParamType[Any]):
    """`auto`, or a number of layers."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or `auto`; fails, naming what is allowed, for anything else."""
        if value == AUTO_LAYERS or isinstance(value, int):
            return value
        if not str(value).isdigit():
            self.fail(f"{value!r} is neither auto nor a number of layers, 0 or more", param, ctx)
        return int(value)


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
    click.option(
        "--gpu-layers",
        type=GpuLayersType(),
        default=TeacherConfig.gpu_layers,
        show_default=True,
        help="Layers of the teacher on the GPU; auto: all that fit, none without a GPU.",
    ),
    click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        default=TeacherConfig.kv_type,
        show_default=True,
        help="Type of cached keys and values; q8_0 takes about half the memory and moves probabilities a little.",
    ),
)


_THEN = (
    click.option("--then", help="Second teacher, asked only about the texts of which the first one is not certain."),
    click.option(
        "--then-share",
        default=ThenSettings.then_share,
        show_default=True,
        help="Share of the texts that the second teacher is asked about, the least certain ones, above 0.",
    ),
    click.option(
        "--then-below",
        type=float,
        help="Ask it instead about the texts whose most probable label has less than this probability, 0 to 1.",
    ),
    click.option(
        "--then-mode",
        type=click.Choice(MODES),
        default=ThenSettings.then_mode,
        show_default=True,
        help="How the second teacher answers.",
    ),
    click.option("--then-paths", type=int, help="Answers of the second teacher per text.  [default: as --paths]"),
)


def second_teacher_options(command: F) -> F:
    """The command with the options about a second teacher."""
    return stacked(command, _THEN)


def teacher_options(command: F) -> F:
    """The command with the options that name the teacher."""
    return stacked(command, _WHO)


def machine_options(command: F) -> F:
    """The command with the options about this machine."""
    return stacked(command, _HOW)


def teacher_config(options: Mapping[str, Any]) -> TeacherConfig:
    """The teacher's configuration in a command's options, which may hold others; raises UserError."""
    return config_of(TeacherConfig, {**options, "name": options["teacher"]})
