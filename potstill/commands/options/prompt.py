"""The options that say what a prompt holds, once for the commands that label and the one that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from potstill.labeler.config import EXAMPLES, TEMPLATES, LabelConfig

F = TypeVar("F", bound=Callable[..., Any])

examples_per_label_option = click.option(
    "--examples-per-label",
    "n_examples_per_label",
    default=LabelConfig.n_examples_per_label,
    show_default=True,
    help="Worked examples of each label in a prompt, at least 1.",
)
_OPTIONS = (
    click.option(
        "--examples",
        type=click.Choice(EXAMPLES),
        default=LabelConfig.examples,
        show_default=True,
        help="Worked examples: the first of each label; drawn anew for each prompt; the most similar to each text (extra train).",
    ),
    examples_per_label_option,
    click.option("--guideline/--no-guideline", default=LabelConfig.guideline, show_default=True, help="Show the task's guideline."),
    click.option(
        "--template",
        type=click.Choice(TEMPLATES),
        default=LabelConfig.template,
        show_default=True,
        help="A document that goes on, or the model's own chat template.",
    ),
)


def prompt_options(command: F) -> F:
    """The command with all of them, listed in that order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
