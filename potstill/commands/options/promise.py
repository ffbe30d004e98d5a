"""Options of every command that promises a loss, a precision or a coverage, and the slices it is promised for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import click

from potstill.contract.scores.bounds import Promise, Rule

confidence_option = click.option(
    "--confidence",
    default=Promise.confidence,
    show_default=True,
    help="That what is stated holds on texts of the same kind, 0.5 to 1.",
)

rule_option = click.option(
    "--rule",
    type=click.Choice(get_args(Rule)),
    default=Promise.rule,
    show_default=True,
    help="State a bound that holds with --confidence, or (point) what holds on these texts and is missed on half of the new ones.",
)


def named(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    """The regular expressions of NAME=REGEX options, by name."""
    pairs = [value.partition("=") for value in values]
    if wrong := next((value for value, (name, _, regex) in zip(values, pairs) if not name.strip() or not regex), None):
        raise click.BadParameter(f"{wrong!r} is not NAME=REGEX", ctx, param)
    return {name.strip(): regex for name, _, regex in pairs}
