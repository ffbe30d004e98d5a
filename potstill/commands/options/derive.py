"""The options that say how soft labels follow from paths, once for all commands that derive them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import click

from potstill.labeler.aggregation.config import DEFAULTS, METHODS, WEIGHTINGS, DeriveConfig

F = TypeVar("F", bound=Callable[..., Any])


class Prior(click.ParamType):  # type: ignore[type-arg]  # generic in click's newest version only
    """`bullish=0.4,bearish=0.3,neutral=0.3`: a share for each label."""

    name = "LABEL=SHARE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """The shares by label; whether they fit the labels is not known here."""
        if isinstance(value, dict):
            return value
        shares: dict[str, float] = {}
        for part in str(value).split(","):
            label, equals, share = (piece.strip() for piece in part.rpartition("="))
            try:
                number = float(share)
            except ValueError:
                equals = ""
            if not (label and equals):
                self.fail(f"{part.strip()!r} is not LABEL=SHARE; write for example bullish=0.4,bearish=0.3,neutral=0.3", param, ctx)
            if label in shares:
                self.fail(f"names {label!r} twice", param, ctx)
            shares[label] = number
        return shares


backbone_option = click.option(
    "--backbone",
    default=DEFAULTS.backbone,
    show_default=True,
    help="Encoder that says which texts are near: a name or a folder.",
)
_prior = click.option(
    "--prior", type=Prior(), help="Share of each label among such texts, above 0, summing to 1.  [default: even shares]"
)
_smooth = (
    click.option("--smooth", default=DEFAULTS.smooth, show_default=True, help="Nearest other texts to mix into a label; 0: none."),
    click.option(
        "--smooth-weight", default=DEFAULTS.smooth_weight, show_default=True, help="Share of the neighbours in the mixture, 0 to 1."
    ),
    backbone_option,
)


def derive_options(command: F) -> F:
    """All of them: method, prior, weighting and smoothing."""
    method = click.option(
        "--method", type=click.Choice(METHODS), default=DEFAULTS.method, show_default=True, help="How paths become soft labels."
    )
    weighting = click.option(
        "--weighting",
        type=click.Choice(WEIGHTINGS),
        default=DEFAULTS.weighting,
        show_default=True,
        help="What prompt variants count: the same, or by their agreement with the others.",
    )
    return _stacked(command, (method, _prior, weighting, *_smooth))


def compare_options(command: F) -> F:
    """Those that several methods take: prior and smoothing."""
    return _stacked(command, (_prior, *_smooth))


def _stacked(command: F, options: Iterable[Callable[[F], F]]) -> F:
    """The command with the options, listed in that order."""
    for option in reversed(list(options)):
        command = option(command)
    return command


def derive_config(options: Mapping[str, Any]) -> DeriveConfig:
    """The configuration in a command's options, which hold others too."""
    names = {field.name for field in fields(DeriveConfig)}
    return DeriveConfig(**{name: value for name, value in options.items() if name in names})


def tell_doubts(doubts: Iterable[str]) -> None:
    """The doubts on stderr, a line each."""
    for doubt in doubts:
        click.echo(f"note: {doubt}", err=True)
