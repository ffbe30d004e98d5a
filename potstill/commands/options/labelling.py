"""The options about prompts and soft labels that several commands share.

Nothing here loads llama.cpp: `potstill task show` prints a prompt without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from potstill.commands.console.errors import tell
from potstill.commands.options.configs import stacked
from potstill.labeler.aggregation.config import DEFAULTS, METHODS, REFININGS, WEIGHTINGS
from potstill.labeler.config import EXAMPLES, MODES, TEMPLATES, THOUGHTS, LabelConfig

F = TypeVar("F", bound=Callable[..., Any])

# What a prompt holds.

mode_option = click.option(
    "--mode",
    type=click.Choice(MODES),
    default=LabelConfig.mode,
    show_default=True,
    help="Reason first (cot), answer at once (direct), or reason only about texts whose direct answers are uncertain (cascade); "
    "auto takes the teacher's best known mode, else cot.",
)
examples_per_label_option = click.option(
    "--examples-per-label",
    "n_examples_per_label",
    default=LabelConfig.n_examples_per_label,
    show_default=True,
    help="Worked examples of each label in a prompt, at least 1.",
)
_PROMPT = (
    click.option(
        "--candidates",
        default=LabelConfig.candidates,
        show_default=True,
        help="Labels that one text is asked among at most, where the task has more than 20: those most similar to it (needs the "
        "extra train); 0: always all labels.",
    ),
    click.option(
        "--examples",
        type=click.Choice(EXAMPLES),
        default=LabelConfig.examples,
        show_default=True,
        help="Worked examples: the first of each label (given), drawn anew for each prompt (diverse), or the most similar to each "
        "text (nearest; needs the extra train).",
    ),
    examples_per_label_option,
    click.option(
        "--guideline/--no-guideline", default=LabelConfig.guideline, show_default=True, help="Whether prompts hold the guideline."
    ),
    click.option(
        "--template",
        type=click.Choice(TEMPLATES),
        default=LabelConfig.template,
        show_default=True,
        help="Prompt format: a document to be continued (plain), or the model's own chat template (chat).",
    ),
    click.option(
        "--thoughts",
        type=click.Choice(THOUGHTS),
        default=LabelConfig.thoughts,
        show_default=True,
        help="In mode cot with template chat: reason in the model's own thoughts (on), in the answer (off), or in thoughts where "
        "the template has a place for them (auto).",
    ),
    click.option(
        "--max-thought-tokens",
        default=LabelConfig.max_thought_tokens,
        show_default=True,
        help="Tokens of one thought, at most; then it is closed and the label is read.",
    ),
)


def prompt_options(command: F) -> F:
    """The command with the options about worked examples, guideline, template and thoughts."""
    return stacked(command, _PROMPT)


# How soft labels follow from paths.


class Prior(click.ParamType):  # type: ignore[type-arg]  # generic in click's newest version only
    """`bullish=0.4,bearish=0.3,neutral=0.3`: a share for each label."""

    name = "LABEL=SHARE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """The shares by label, as they are written; the labels are not known here."""
        if isinstance(value, dict):
            return value
        shares: dict[str, float] = {}
        label, parts = "", str(value).split(",")
        for number, part in enumerate(parts, 1):
            entry = f"{label},{part}" if label else part
            name, equals, share = (piece.strip() for piece in entry.rpartition("="))
            if name and equals and _is_number(share):
                if name in shares:
                    self.fail(f"names {name!r} twice", param, ctx)
                shares[name], label = float(share), ""
            elif number == len(parts) or not entry.strip():
                self.fail(
                    f"{entry.strip()!r} is not LABEL=SHARE; write for example bullish=0.4,bearish=0.3,neutral=0.3", param, ctx
                )
            else:
                label = entry  # a comma of the label's own
        return shares


def _is_number(text: str) -> bool:
    """True if the text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


backbone_option = click.option(
    "--backbone",
    default=DEFAULTS.backbone,
    show_default=True,
    help="Encoder that measures how similar texts are: a name or a folder.",
)


def prior_option(help: str) -> Callable[[F], F]:
    """The option that states the labels' shares. Args: help, with what holds where none are stated."""
    return click.option("--prior", type=Prior(), help=help)


_PRIOR = prior_option("Share of each label among such texts, above 0, summing to 1.  [default: equal shares]")
_SMOOTH = (
    click.option(
        "--smooth",
        default=DEFAULTS.smooth,
        show_default=True,
        help="Number of similar texts whose labels are mixed into a text's; 0: none.",
    ),
    click.option(
        "--smooth-weight", default=DEFAULTS.smooth_weight, show_default=True, help="Share of the similar texts in the mix, 0 to 1."
    ),
    backbone_option,
)
refine_option = click.option(
    "--refine",
    type=click.Choice(REFININGS),
    default=DEFAULTS.refine,
    show_default=True,
    help="Take what all other texts say as a prior for a text (needs the extra train); auto: where there are texts enough.",
)
_REFINE_GOLD = click.option(
    "--refine-gold",
    default=DEFAULTS.refine_gold,
    show_default=True,
    help="Texts with gold from which on they can keep --refine auto from refining; 0: gold is not asked.",
)
_METHOD = click.option(
    "--method", type=click.Choice(METHODS), default=DEFAULTS.method, show_default=True, help="How paths become soft labels."
)
_WEIGHTING = click.option(
    "--weighting",
    type=click.Choice(WEIGHTINGS),
    default=DEFAULTS.weighting,
    show_default=True,
    help="Weight of a prompt variant: all the same (even), or by its agreement with the others (agreement).",
)


def derive_options(command: F) -> F:
    """The command with method, prior, weighting, refining and smoothing."""
    return stacked(command, (_METHOD, _PRIOR, _WEIGHTING, refine_option, _REFINE_GOLD, *_SMOOTH))


def compare_options(command: F) -> F:
    """The command with the options that every method takes: prior, refining and smoothing."""
    return stacked(command, (_PRIOR, refine_option, *_SMOOTH))


def warn(lines: Iterable[str]) -> None:
    """Print warnings about soft labels on stderr, a line each."""
    for line in lines:
        tell(f"note: {line}")
