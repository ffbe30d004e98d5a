"""What turns logits into a decision: the fields that a checkpoint and a bundle share, and what they must promise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Protocol

from potstill.contract.errors import FormatError
from potstill.contract.files.decode import Strict

LabelSource = Literal["gold", "teacher"]  # whose labels a number was fitted on: a person's, or the teacher's majorities

SUM_TOLERANCE = 1e-6


class Precision(Strict):
    """What the thresholds were chosen for."""

    wanted: float  # share of right answers among those given, above 0 and at most 1
    n: int  # texts they were chosen on
    source: LabelSource  # what counted as right


class Conformal(Strict):
    """A split-conformal quantile: a label is in a text's set when one minus its probability is at most this."""

    coverage: float  # share of the texts whose set holds their label, above 0 and below 1; on average over calibration sets
    quantile: float  # 0 to 1
    n: int  # texts it was taken from
    source: LabelSource  # whose label is covered


class Decision(Protocol):
    """The fields of `student.json` and `bundle.json` that decide."""

    @property
    def labels(self) -> list[str]:
        """In output order."""

    @property
    def temperature(self) -> float:
        """Logits are divided by it; above 0."""

    @property
    def thresholds(self) -> dict[str, float | None] | None:
        """By label: answered only at or above this probability; null: never; a label that is absent: always."""

    @property
    def precision(self) -> Precision | None:
        """What the thresholds were chosen for; None where a person set them."""

    @property
    def conformal(self) -> Conformal | None:
        """The quantile of the label sets."""

    @property
    def label_shares(self) -> dict[str, float] | None:
        """By label: the mean probability over the held-out texts; what a shift of the labels is measured from."""


def check_decision(path: Path, decision: Decision) -> None:
    """Refuse what cannot decide anything, or contradicts itself; raises FormatError naming the field."""
    labels, temperature = decision.labels, decision.temperature
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise FormatError(path, "labels", f"are {labels}; there must be at least 2, all different")
    if not 0 < temperature < math.inf:
        raise FormatError(path, "temperature", f"is {temperature}; it must be above 0")
    for name, value in (decision.thresholds or {}).items():
        if name not in labels:
            raise FormatError(path, f"thresholds.{name}", f"is not a label; allowed: {', '.join(labels)}")
        if value is not None and not 0 <= value <= 1:
            raise FormatError(path, f"thresholds.{name}", f"is {value}; it must be from 0 to 1, or null for a label never answered")
    _check_precision(path, decision)
    _check_conformal(path, decision.conformal)
    _check_shares(path, labels, decision.label_shares)


def check_bias(path: Path, labels: list[str], bias: list[float] | None) -> None:
    """Refuse a bias that does not fit the labels; raises FormatError."""
    if bias is None:
        return
    if len(bias) != len(labels):
        raise FormatError(path, "bias", f"has {len(bias)} numbers; there are {len(labels)} labels")
    if not all(math.isfinite(value) for value in bias):
        raise FormatError(path, "bias", f"is {bias}; every number must be finite")


def _check_precision(path: Path, decision: Decision) -> None:
    """A precision has thresholds beside it, and is one."""
    precision = decision.precision
    if precision is None:
        return
    if not decision.thresholds:
        raise FormatError(path, "precision", "is given without thresholds; leave it out, or calibrate again")
    if not 0 < precision.wanted <= 1:
        raise FormatError(path, "precision.wanted", f"is {precision.wanted}; it must be above 0 and at most 1")
    if precision.n < 1:
        raise FormatError(path, "precision.n", f"is {precision.n}; it must be at least 1")


def _check_conformal(path: Path, conformal: Conformal | None) -> None:
    """A quantile is a probability, and enough texts stand behind its coverage."""
    if conformal is None:
        return
    if not 0 < conformal.coverage < 1:
        raise FormatError(path, "conformal.coverage", f"is {conformal.coverage}; it must be above 0 and below 1")
    if not 0 <= conformal.quantile <= 1:
        raise FormatError(path, "conformal.quantile", f"is {conformal.quantile}; it must be from 0 to 1")
    least = min_calibration_texts(conformal.coverage)
    if conformal.n < least:
        raise FormatError(
            path, "conformal.n", f"is {conformal.n}; a coverage of {conformal.coverage:g} takes at least {least} texts"
        )


def _check_shares(path: Path, labels: list[str], shares: dict[str, float] | None) -> None:
    """Shares are a distribution over the labels, none of them 0: nothing can be multiplied up from there."""
    if shares is None:
        return
    if set(shares) != set(labels):
        raise FormatError(path, "label_shares", f"has labels {sorted(shares)}; expected {sorted(labels)}")
    for name, value in shares.items():
        if not 0 < value <= 1:
            raise FormatError(path, f"label_shares.{name}", f"is {value}; it must be above 0 and at most 1")
    if abs(math.fsum(shares.values()) - 1) > SUM_TOLERANCE:
        total = math.fsum(shares.values())
        raise FormatError(path, "label_shares", f"sum to {total:.8f}; they must sum to 1 within {SUM_TOLERANCE}")


def min_calibration_texts(coverage: float) -> int:
    """Fewest texts from which a quantile can promise the coverage (above 0, below 1): with fewer it would have to be infinite.

    Source: Angelopoulos and Bates 2021, arXiv:2107.07511, section 1: the ceil((n + 1) coverage)-th smallest of n scores.
    """
    n = max(1, math.floor(coverage / (1 - coverage)))
    while math.ceil((n + 1) * coverage) > n:
        n += 1
    return n
