"""How soft labels are derived from stored paths: the choices, what they may be, and the name they leave in every soft label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.models.catalog import find_backbone

Method = Literal["calibrated", "majority", "votes", "mean", "matched", "affine"]
Weighting = Literal["even", "agreement"]
METHODS: tuple[str, ...] = get_args(Method)
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
UNCALIBRATED = ("votes", "mean")  # methods that take the teacher's preference for a label as it is
VOTING = ("votes", "majority")  # methods that count votes
PRIOR_TOLERANCE = 1e-3  # shares are typed by hand


@dataclass(frozen=True)
class DeriveConfig:
    """From paths to soft labels; docs/labelling.md says when to use what."""

    method: Method = "calibrated"
    prior: dict[str, float] | None = None  # stated share of every label; None: even shares
    weighting: Weighting = "even"  # of the prompt variants
    smooth: int = 0  # nearest other texts whose labels are mixed in; 0: none
    smooth_weight: float = 0.5  # share of the neighbours in the mixture, 0 to 1: half, tuned on nothing
    backbone: str = "all-minilm-l6-v2"  # in whose embedding space the neighbours are near

    def name(self, *, adaptive: bool) -> str:
        """All that was done, in the order of the doing but for the method, which stands first: `calibrated+agreement+smooth10`.

        Args:
            adaptive: whether paths were drawn until a text was decided, so that a posterior mean stands for the average.
        """
        parts: list[str] = [self.method]
        if self.prior is not None:
            parts[0] += f"({','.join(f'{label}={share:g}' for label, share in self.prior.items())})"
        if self.weighting != "even":
            parts.append(self.weighting)
        if adaptive and self.method != "majority":
            parts.append("posterior")
        if self.smooth:
            weight = "" if self.smooth_weight == DeriveConfig.smooth_weight else f"x{self.smooth_weight:g}"
            space = "" if self.backbone == DeriveConfig.backbone else f"@{self.backbone}"
            parts.append(f"smooth{self.smooth}{weight}{space}")
        return "+".join(parts)


DEFAULTS = DeriveConfig()


def check_derive(config: DeriveConfig, labels: Sequence[str]) -> None:
    """Refuse what no soft label can be derived with, before a path is drawn.

    Raises:
        UserError: if a value is not allowed, two of them contradict each other, or the backbone is not on this machine.
        ModuleNotFoundError: if smoothing is asked for and torch or transformers is not installed.
    """
    for name, value, allowed in (("method", config.method, METHODS), ("weighting", config.weighting, WEIGHTINGS)):
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    if config.smooth < 0:
        raise UserError(f"smooth is {config.smooth}; it must be a number of neighbours, or 0 for none")
    if not 0 <= config.smooth_weight <= 1:
        raise UserError(f"smooth weight is {config.smooth_weight}; it must be from 0 to 1")
    if config.prior is not None:
        _check_prior(config.prior, labels)
        if config.method in UNCALIBRATED:
            raise UserError(f"method {config.method} uses no prior; leave the prior out, or use calibrated or matched")
    elif config.method == "matched":
        example = ",".join(f"{label}={1 / len(labels):.2g}" for label in labels[:4]) + (",..." if len(labels) > 4 else "")
        raise UserError(f"method matched needs the labels' shares; state them, for example: --prior {example}")
    if config.smooth:
        find_backbone(config.backbone)
        import potstill.labeler.embeddings  # noqa: F401  # now rather than after hours of labelling: it needs torch


def prior_shares(config: DeriveConfig, labels: Sequence[str]) -> NDArray[np.float64]:
    """The wanted share of each label, float [C], above 0, sums to 1: the stated ones in the labels' order, else even ones."""
    if config.prior is None:
        return np.full(len(labels), 1 / len(labels))
    shares = np.array([config.prior[label] for label in labels], dtype=np.float64)
    return np.asarray(shares / shares.sum())


def _check_prior(prior: dict[str, float], labels: Sequence[str]) -> None:
    """A share above 0 for every label and for nothing else, summing to 1."""
    for name, share in prior.items():
        if name not in labels:
            raise UserError(f"prior: {name!r} is no label; the labels are {', '.join(labels)}")
        if not 0 < share < 1:
            raise UserError(f"prior: {name} is {share:g}; each share must be above 0 and below 1")
    for label in labels:
        if label not in prior:
            raise UserError(f"prior: lacks {label!r}; state a share for each of {', '.join(labels)}")
    total = math.fsum(prior.values())
    if abs(total - 1) > PRIOR_TOLERANCE:
        raise UserError(f"prior: the shares sum to {total:g}; they must sum to 1")
