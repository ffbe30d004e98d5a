"""Thresholds: for each label, the probability from which on its answers have a wanted precision; below it a student abstains.

Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.decision import LabelSource, Precision
from potstill.contract.errors import UserError

MIN_ANSWERS = 10  # answers at or above a threshold; a precision over fewer says little
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class LabelThreshold:
    """One label's threshold, with the precision and recall of its answers on the texts that it was chosen on."""

    label: str
    threshold: float | None  # None: no threshold reaches the wanted precision
    n: int  # answers at or above the threshold; without one, all answers of the label
    n_right: int  # of these
    n_gold: int  # texts that have the label

    @property
    def precision(self) -> float:
        """Share of right answers among the n; 0 without an answer."""
        return self.n_right / self.n if self.n else 0.0

    @property
    def recall(self) -> float:
        """Share of the label's texts that get it as an answer; 0 without such a text."""
        return self.n_right / self.n_gold if self.n_gold else 0.0


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of all labels, in output order."""

    precision: Precision
    per_label: list[LabelThreshold]

    @property
    def by_label(self) -> dict[str, float | None]:
        """Thresholds by label, as checkpoint and bundle hold them."""
        return {row.label: row.threshold for row in self.per_label}

    def as_text(self) -> str:
        """A table with a row for each label, and a line on what the precision means."""
        width = max(5, *(len(row.label) for row in self.per_label))
        lines = [f"{'label':<{width}}  threshold  precision             recall      n"]
        for row in self.per_label:
            low, high = wilson(row.n_right, row.n)
            place = "never" if row.threshold is None else f"{row.threshold:.3f}"
            worth = f"{row.precision:.3f} [{low:.3f}, {high:.3f}]" if row.n else "-"
            lines.append(f"{row.label:<{width}}  {place:<9}  {worth:<20}  {row.recall:<6.3f}  {row.n:>5}")
        lines += [self._unreached(row) for row in self.per_label if row.threshold is None]
        n_answered = sum(row.n for row in self.per_label if row.threshold is not None)
        share = n_answered / self.precision.n
        lines.append(f"{n_answered} of {self.precision.n} texts are answered ({share:.0%}); the student abstains from the others")
        return "\n".join([*lines, precision_note(self.precision)])

    def _unreached(self, row: LabelThreshold) -> str:
        """The reason why a label has no threshold."""
        if row.n < MIN_ANSWERS:
            return f"{row.label}: always abstains; {row.n} texts are answered with it, at least {MIN_ANSWERS} are needed"
        return f"{row.label}: always abstains; no threshold reaches {self.precision.wanted:g} with {MIN_ANSWERS} answers"


def fit_thresholds(
    probs: NDArray[np.float64], truth: NDArray[np.int64], labels: list[str], wanted: float, source: LabelSource
) -> Thresholds:
    """Choose each label's lowest threshold at which there are enough answers, and they have the wanted precision.

    A text is answered with its most probable label, so only those texts count for a label's precision. A threshold chosen among
    many is also a lucky one: on other texts expect a little less, and read the interval.

    Args:
        probs: calibrated, float [N, C]; rows sum to 1.
        truth: int [N], the class that counts as right.
        labels: C names, in output order.
        wanted: precision, above 0 and at most 1.
        source: whose labels the truth is.
    Raises:
        UserError: if the precision is out of range, or there are fewer texts than any threshold needs.
    """
    check_precision(wanted)
    if len(truth) < MIN_ANSWERS:
        raise UserError(f"there are {len(truth)} texts to choose thresholds on; give at least {MIN_ANSWERS}")
    answers, confidence = probs.argmax(axis=1), probs.max(axis=1)
    per_label = []
    for c, label in enumerate(labels):
        mine = answers == c
        threshold = lowest_threshold(confidence[mine], truth[mine] == c, wanted)
        counted = mine if threshold is None else mine & (confidence >= threshold)
        n_right = int((truth[counted] == c).sum())
        per_label.append(LabelThreshold(label, threshold, int(counted.sum()), n_right, int((truth == c).sum())))
    return Thresholds(Precision(wanted=wanted, n=len(truth), source=source), per_label)


def lowest_threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_], wanted: float) -> float | None:
    """The lowest confidence at which the answers at or above it are right often enough, or None.

    Args:
        confidence: float [n], probability of each answer.
        right: bool [n], whether it is right.
        wanted: precision, above 0 and at most 1.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, hits = confidence[order], np.cumsum(right[order])
    n_claims = np.arange(1, len(order) + 1)
    last_of_equals = np.append(falling[1:] != falling[:-1], True) if len(order) else np.array([], dtype=bool)
    good = (
        last_of_equals & (n_claims >= MIN_ANSWERS) & (hits >= wanted * n_claims - 1e-9)
    )  # 9 of 10 reach 0.9, whatever the last bit
    return float(falling[good][-1]) if good.any() else None


def check_precision(wanted: float) -> None:
    """Raise UserError unless the precision is above 0 and at most 1. Args: wanted, a share."""
    if not 0 < wanted <= 1:  # this way round, NaN is refused too
        raise UserError(f"precision is {wanted:g}; it must be above 0 and at most 1")


def precision_note(precision: Precision) -> str:
    """A line that says whose labels a precision is measured against."""
    if precision.source == "gold":
        return f"precision {precision.wanted:g} is measured on {precision.n} texts that people labelled"
    return (
        f"precision {precision.wanted:g} means agreement with the teacher on {precision.n} held-out texts, not with people; "
        "for that: potstill calibrate CHECKPOINT GOLD"
    )


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, within 0 to 1; (0, 1) without a trial.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = n_right / n, Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
