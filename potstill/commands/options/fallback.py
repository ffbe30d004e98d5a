"""The options about the teacher behind a server. Nothing here loads llama.cpp: a server needs none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from potstill.commands.options.configs import stacked
from potstill.contract.errors import UserError
from potstill.labeler.teacher import APIS
from potstill.serve.http.config import AuditSettings, TeacherLimits
from potstill.workflows.fallback.config import FallbackConfig

F = TypeVar("F", bound=Callable[..., Any])
MEGABYTE = 1_000_000
AUDIT_MB = AuditSettings(0, "").max_bytes // MEGABYTE

_FALLBACK = (
    click.option(
        "--teacher",
        metavar="TEACHER",
        help="Teacher for the texts on which a bundle abstains, or which are unfamiliar to it: a name of `potstill models list`, a "
        "GGUF file, or a server's address.  [default: none]",
    ),
    click.option(
        "--task", type=click.Path(path_type=Path), help="Task that the teacher decides: the one that the bundle was made for."
    ),
    click.option("--teacher-model", help="Id of the teacher's model on a server.  [default: its only one]"),
    click.option(
        "--teacher-api", type=click.Choice(APIS), default=FallbackConfig.api, show_default=True, help="How a server is asked."
    ),
    click.option(
        "--teacher-paths",
        type=click.IntRange(min=1),
        default=FallbackConfig.paths,
        show_default=True,
        help="Prompts with different worked examples that are averaged for each text; each one costs the same again.",
    ),
    click.option(
        "--teacher-threads",
        type=click.IntRange(min=1),
        default=FallbackConfig.threads,
        help="CPU threads of a teacher on this machine.  [default: usable cores]",
    ),
    click.option(
        "--teacher-memory-mb",
        type=click.IntRange(min=1),
        default=FallbackConfig.memory_mb,
        help="Megabytes that the teacher's process may hold, its model's file aside; one that holds more is replaced.  "
        "[default: no limit; the system ends it first where memory runs out]",
    ),
    click.option(
        "--teacher-pool",
        metavar="FILE",
        default=FallbackConfig.pool,
        help="Texts like those to come, on which the teacher's preference for single labels is measured.  [default: the bundle's "
        "golden texts]",
    ),
    click.option(
        "--teacher-wait-ms",
        type=click.FloatRange(min=0, min_open=True),
        default=TeacherLimits.wait_ms,
        show_default=True,
        help="Milliseconds that a text waits for the teacher, within the deadline of its request.",
    ),
    click.option(
        "--teacher-concurrency",
        type=click.IntRange(min=1),
        default=TeacherLimits.concurrency,
        show_default=True,
        help="Texts that the teacher is asked about at once; beyond that the bundle answers.",
    ),
    click.option(
        "--teacher-per-minute",
        type=click.IntRange(min=0),
        default=TeacherLimits.per_minute,
        show_default=True,
        help="Texts that the teacher is asked about in any minute, at most.",
    ),
    click.option(
        "--audit",
        type=click.FloatRange(0, 1, min_open=True),
        help="Share of all texts that is sent to the teacher as well, at random and in the background.  [default: none]",
    ),
    click.option(
        "--audit-to", type=click.Path(path_type=Path), help="File that keeps both answers, with the text, for potstill audit."
    ),
    click.option(
        "--audit-max",
        type=click.IntRange(min=1),
        default=AUDIT_MB,
        show_default=True,
        help="Size of that file in megabytes from which on nothing is added.",
    ),
)


def fallback_options(command: F) -> F:
    """The command with the options about the teacher behind the server."""
    return stacked(command, _FALLBACK)


def check_fallback(teacher: str | None, task: Path | None) -> None:
    """Refuse a teacher without a task, and the reverse; raises UserError."""
    if teacher is not None:
        raise UserError("--teacher is given without --task; name the task.toml that the bundle was made for: the teacher reads it")
    if task is not None:
        raise UserError("--task is given without --teacher; name a teacher, or leave it out: a bundle answers without a task")


def audit_settings(teacher: str | None, share: float | None, file: Path | None, max_mb: int) -> AuditSettings | None:
    """The audit that the options ask for, None if they ask for none; raises UserError if one of them lacks the other."""
    if share is None and file is None:
        return None
    if teacher is None:
        raise UserError("--audit needs a teacher to compare with; name one with --teacher and --task")
    if share is None or file is None:
        given, other = ("--audit-to", "--audit SHARE, such as 0.02") if share is None else ("--audit", "--audit-to FILE")
        raise UserError(f"{given} is given alone; add {other}: texts are private, so they are kept only where you say")
    return AuditSettings(share, str(file.absolute()), max_mb * MEGABYTE)
