"""Settings for deriving soft labels from stored paths, their checks, and the method name that every soft label carries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from potstill.contract.errors import UserError
from potstill.labeler.encoder_at_hand import check_embedding_libraries
from potstill.models.catalog import find_backbone

Method = Literal["calibrated", "majority", "votes", "mean", "matched", "affine"]
Weighting = Literal["even", "agreement"]
Refining = Literal["auto", "on", "off"]
METHODS: tuple[str, ...] = get_args(Method)
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
REFININGS: tuple[str, ...] = get_args(Refining)
UNCALIBRATED = ("votes", "mean")  # methods that keep the teacher's preference for single labels
VOTING = ("votes", "majority")  # methods that count votes
UNREFINED = (*UNCALIBRATED, "majority")  # methods that show what the paths alone say
QUESTION_MARK = ":"  # in a prior, between a question's name and its label: `stance:bullish`
LEAST_GOLD = 10  # texts that auto may be decided by: with fewer no difference is clear
PRIOR_TOLERANCE = 1e-3  # shares are typed by hand


@dataclass(frozen=True)
class DeriveConfig:
    """How soft labels are derived from paths; docs/labelling.md says when to use what.

    Raises:
        UserError: if a value is not allowed, or two values contradict each other.
    """

    method: Method = "calibrated"
    prior: dict[str, float] | None = None  # stated share of every label; None: even shares
    weighting: Weighting = "even"  # of the prompt variants
    smooth: int = 0  # nearest other texts whose labels are mixed in; 0: none
    smooth_weight: float = 0.5  # share of the neighbours in the mixture, 0 to 1; half, not tuned
    # Whether what all other texts say is a prior for a text; auto: where there are texts enough, the backbone is at hand, and gold
    # does not speak against it.
    refine: Refining = "auto"
    refine_gold: int = 25  # texts with gold from which on auto asks them whether refined labels are worse; 0: never
    backbone: str = "all-minilm-l6-v2"  # the encoder in whose embedding space texts are near each other

    def __post_init__(self) -> None:
        """Refuse values that are wrong whatever the labels are; :func:`check_derive` compares with the labels."""
        for name, value, allowed in (
            ("method", self.method, METHODS), ("weighting", self.weighting, WEIGHTINGS), ("refine", self.refine, REFININGS)
        ):  # fmt: skip
            if value not in allowed:
                raise UserError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if self.refine_gold and self.refine_gold < LEAST_GOLD:
            raise UserError(f"refine gold is {self.refine_gold}; it must be at least {LEAST_GOLD} gold texts, or 0 to ask none")
        if self.smooth < 0:
            raise UserError(f"smooth is {self.smooth}; it must be a number of neighbours, or 0 for none")
        if not 0 <= self.smooth_weight <= 1:
            raise UserError(f"smooth weight is {self.smooth_weight}; it must be from 0 to 1")
        if self.refine == "on" and self.method in UNREFINED:
            raise UserError(f"method {self.method} shows what the paths alone say, and is not refined; use calibrated")
        if self.prior is not None:
            _check_shares(self.prior)
            if self.method in UNCALIBRATED:
                raise UserError(f"method {self.method} uses no prior; leave the prior out, or use calibrated or matched")

    def name(self, *, adaptive: bool) -> str:
        """The method name of the soft labels: the method, then the other steps in their order: `calibrated+agreement+smooth10`.

        Args:
            adaptive: whether paths were drawn until a text was decided, so that a posterior mean replaces the average.
        """
        parts: list[str] = [self.method]
        if self.prior is not None:
            parts[0] += f"({','.join(f'{label}={share:g}' for label, share in self.prior.items())})"
        if self.weighting != "even":
            parts.append(self.weighting)
        if adaptive and self.method != "majority":
            parts.append("posterior")
        space = "" if self.backbone == DeriveConfig.backbone else f"@{self.backbone}"
        if self.smooth:
            weight = "" if self.smooth_weight == DeriveConfig.smooth_weight else f"x{self.smooth_weight:g}"
            parts.append(f"smooth{self.smooth}{weight}{space}")
        if self.refine == "on":
            parts.append(f"refined{space}")
        return "+".join(parts)


DEFAULTS = DeriveConfig()


def check_derive(config: DeriveConfig, labels: Sequence[str]) -> None:
    """Check a configuration against a task's labels and this machine, before a path is drawn.

    Raises:
        UserError: if the prior does not fit the labels, or is missing where it is needed, or the backbone is not on this machine.
        ModuleNotFoundError: if smoothing or refining is wanted and torch or transformers is not installed.
    """
    if config.prior is not None:
        for name in config.prior:
            if name not in labels:
                raise UserError(f"prior: {name!r} is not a label; the labels are {', '.join(labels)}")
        for label in labels:
            if label not in config.prior:
                raise UserError(f"prior: lacks {label!r}; state a share for each of {', '.join(labels)}")
        _check_sum(config.prior)
    elif config.method == "matched":
        example = ",".join(f"{label}={1 / len(labels):.2g}" for label in labels[:4]) + (
            f" and so on, {len(labels)} shares" if len(labels) > 4 else ""
        )
        raise UserError(f"method matched needs the labels' shares; state them, for example: --prior {example}")
    if config.smooth or config.refine == "on":
        find_backbone(config.backbone)
        check_embedding_libraries()  # now rather than after hours of labelling


def _check_shares(prior: dict[str, float]) -> None:
    """Check that the shares are proper fractions, and sum to 1 unless they are of several questions; raises UserError."""
    for name, share in prior.items():
        if not 0 < share < 1:
            raise UserError(f"prior: {name} is {share:g}; each share must be above 0 and below 1")
    if not any(QUESTION_MARK in name for name in prior):
        _check_sum(prior)


def _check_sum(prior: dict[str, float]) -> None:
    """Check that the shares sum to 1; raises UserError."""
    total = math.fsum(prior.values())
    if abs(total - 1) > PRIOR_TOLERANCE:
        raise UserError(f"prior: the shares of {', '.join(prior)} sum to {total:g}; they must sum to 1")


@dataclass(frozen=True)
class ShowConfig:
    """Which texts are shown, in which order.

    Raises:
        UserError: if a number is below zero.
    """

    uncertain: bool = False  # the least certain first, instead of by id
    label: str | None = None  # only texts with this majority label
    words: str | None = None  # only texts that contain all of these words, ignoring case
    most: int | None = None  # texts; None: all
    rationales: int = 3  # of a text; those of different labels first

    def __post_init__(self) -> None:
        """Check both numbers."""
        for name, number in (("most", self.most), ("rationales", self.rationales)):
            if number is not None and number < 0:
                raise UserError(f"{name} is {number}; it must be at least 0")
