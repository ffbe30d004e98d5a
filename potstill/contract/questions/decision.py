"""The settings that turn logits into a decision: the fields that a checkpoint and a bundle share, and their checks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Protocol

from potstill.contract.errors import FormatError
from potstill.contract.files.decode import Strict
from potstill.contract.scores.bounds import fewest_texts

LabelSource = Literal["gold", "teacher"]  # labels that a number was fitted on: a person's, or the teacher's majority votes

SUM_TOLERANCE = 1e-6
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6  # far beyond any that calibration finds; logits divided by one stay finite


class Precision(Strict):
    """The precision that the thresholds were chosen for."""

    wanted: float  # share of correct answers among those given, above 0 and at most 1
    n: int  # number of texts they were chosen on
    source: LabelSource  # labels that counted as correct
    confidence: float | None = None  # that every label has it on texts of this kind; None: point rule, it has it on those n texts


class Conformal(Strict):
    """A split-conformal quantile: a label is in a text's set when one minus its probability is at most this."""

    coverage: float  # share of texts whose set contains their label, above 0 and below 1
    quantile: float  # 0 to 1
    n: int  # number of calibration texts
    source: LabelSource  # labels that the sets cover
    confidence: float | None = None  # that the coverage is reached with this quantile; None: on average over calibration texts


class Decision(Protocol):
    """The decision fields of `student.json` and `bundle.json`."""

    @property
    def labels(self) -> list[str]:
        """Label names in output order."""

    @property
    def temperature(self) -> float:
        """Divides the logits; above 0."""

    @property
    def thresholds(self) -> dict[str, float | None] | None:
        """By label: answered at or above this probability only; null: never; an absent label: always."""

    @property
    def precision(self) -> Precision | None:
        """The precision that the thresholds were chosen for; None if a person set them."""

    @property
    def conformal(self) -> Conformal | None:
        """The quantile for label sets."""

    @property
    def label_shares(self) -> dict[str, float] | None:
        """Mean probability of each label over the held-out texts; a prior shift is measured against it."""


def check_decision(path: Path, decision: Decision) -> None:
    """Raise FormatError, naming the field, if the settings are out of range or contradict each other."""
    labels, temperature = decision.labels, decision.temperature
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise FormatError(path, "labels", f"are {labels}; there must be at least 2, all different")
    if not 0 < temperature < math.inf:
        raise FormatError(path, "temperature", f"is {temperature}; it must be above 0")
    if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        problem = f"is {temperature}; it must be from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}"
        raise FormatError(path, "temperature", problem)
    for name, value in (decision.thresholds or {}).items():
        if name not in labels:
            raise FormatError(path, f"thresholds.{name}", f"is not a label; allowed: {', '.join(labels)}")
        if value is not None and not 0 <= value <= 1:
            raise FormatError(path, f"thresholds.{name}", f"is {value}; it must be from 0 to 1, or null for a label never answered")
    _check_precision(path, decision)
    _check_conformal(path, decision.conformal)
    _check_shares(path, labels, decision.label_shares)


def check_bias(path: Path, labels: list[str], bias: list[float] | None) -> None:
    """Raise FormatError if there is a bias that does not fit the labels."""
    if bias is None:
        return
    if len(bias) != len(labels):
        raise FormatError(path, "bias", f"has {len(bias)} numbers; there are {len(labels)} labels")
    if not all(math.isfinite(value) for value in bias):
        raise FormatError(path, "bias", f"is {bias}; every number must be finite")


def _check_precision(path: Path, decision: Decision) -> None:
    """Check that a precision is in range and has thresholds."""
    precision = decision.precision
    if precision is None:
        return
    if not decision.thresholds:
        raise FormatError(path, "precision", "is given without thresholds; leave it out, or calibrate again")
    if not 0 < precision.wanted <= 1:
        raise FormatError(path, "precision.wanted", f"is {precision.wanted}; it must be above 0 and at most 1")
    if precision.n < 1:
        raise FormatError(path, "precision.n", f"is {precision.n}; it must be at least 1")
    check_confidence(path, "precision.confidence", precision.confidence)


def check_confidence(path: Path, place: str, confidence: float | None) -> None:
    """Raise FormatError unless the confidence of a bound, if there is one, is above 0 and below 1."""
    if confidence is not None and not 0 < confidence < 1:
        raise FormatError(path, place, f"is {confidence}; it must be above 0 and below 1")


def _check_conformal(path: Path, conformal: Conformal | None) -> None:
    """Check that the quantile is a probability, and that there were enough texts for its coverage."""
    if conformal is None:
        return
    if not 0 < conformal.coverage < 1:
        raise FormatError(path, "conformal.coverage", f"is {conformal.coverage}; it must be above 0 and below 1")
    if not 0 <= conformal.quantile <= 1:
        raise FormatError(path, "conformal.quantile", f"is {conformal.quantile}; it must be from 0 to 1")
    check_confidence(path, "conformal.confidence", conformal.confidence)
    least = min_calibration_texts(conformal.coverage, conformal.confidence)
    if conformal.n < least:
        raise FormatError(
            path, "conformal.n", f"is {conformal.n}; a coverage of {conformal.coverage:g} needs at least {least} texts"
        )


def _check_shares(path: Path, labels: list[str], shares: dict[str, float] | None) -> None:
    """Check that the shares are a distribution over the labels without a 0, since shares are divided by them."""
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


def min_calibration_texts(coverage: float, confidence: float | None = None) -> int:
    """Smallest number of calibration texts for a coverage; with fewer the quantile would be infinite.

    Args:
        coverage: above 0 and below 1.
        confidence: that it is reached, above 0 and below 1; None: on average.
    Source: Angelopoulos and Bates 2021, arXiv:2107.07511, section 1: the ceil((n + 1) coverage)-th smallest of n scores.
    """
    if confidence is not None:
        return fewest_texts(coverage, confidence)
    n = max(1, math.floor(coverage / (1 - coverage)))
    while math.ceil((n + 1) * coverage) > n:
        n += 1
    return n
