"""Per label, the probability from which on a student's answers are as often right as somebody wants.

Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.decision import LabelSource, Precision
from potstill.contract.errors import UserError

MIN_CLAIMS = 10  # answers at or above a threshold; the share of right ones among fewer says little
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Claim:
    """One label's threshold and what its answers were worth on the texts it was chosen on."""

    label: str
    threshold: float | None  # None: none reaches the wanted precision
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
    claims: list[Claim]

    @property
    def by_label(self) -> dict[str, float | None]:
        """As checkpoint and bundle hold them."""
        return {claim.label: claim.threshold for claim in self.claims}

    def as_text(self) -> str:
        """A table, a row for each label, and a line on what the precision means."""
        width = max(5, *(len(claim.label) for claim in self.claims))
        lines = [f"{'label':<{width}}  threshold  precision             recall      n"]
        for claim in self.claims:
            low, high = wilson(claim.n_right, claim.n)
            place = "never" if claim.threshold is None else f"{claim.threshold:.3f}"
            worth = f"{claim.precision:.3f} [{low:.3f}, {high:.3f}]" if claim.n else "-"
            lines.append(f"{claim.label:<{width}}  {place:<9}  {worth:<20}  {claim.recall:<6.3f}  {claim.n:>5}")
        lines += [self._unreached(claim) for claim in self.claims if claim.threshold is None]
        n_answered = sum(claim.n for claim in self.claims if claim.threshold is not None)
        share = n_answered / self.precision.n
        lines.append(f"{n_answered} of {self.precision.n} texts are answered ({share:.0%}), the others abstained from")
        return "\n".join([*lines, meaning(self.precision)])

    def _unreached(self, claim: Claim) -> str:
        """Why a label has no threshold."""
        if claim.n < MIN_CLAIMS:
            return f"{claim.label}: always abstained from; it is the answer to {claim.n} texts, at least {MIN_CLAIMS} are needed"
        return f"{claim.label}: always abstained from; no threshold reaches {self.precision.wanted:g} with {MIN_CLAIMS} answers"


def fit_thresholds(
    probs: NDArray[np.float64], truth: NDArray[np.int64], labels: list[str], wanted: float, source: LabelSource
) -> Thresholds:
    """For each label the lowest threshold at which the answers at or above it have the wanted precision, and are at least ten.

    A text is answered with its most probable label, so that only those texts speak about a label's precision. Among many
    thresholds the one that is chosen has been lucky, too: on other texts expect a little less, and read the interval.

    Args:
        probs: calibrated, float [N, C]; rows sum to 1.
        truth: int [N], the class that counts as right.
        labels: C names, in output order.
        wanted: precision, above 0 and at most 1.
        source: whose labels the truth is.
    Raises:
        UserError: if the precision is out of its range, or there are fewer texts than any threshold needs.
    """
    check_precision(wanted)
    if len(truth) < MIN_CLAIMS:
        raise UserError(f"there are {len(truth)} texts to choose thresholds on; give at least {MIN_CLAIMS}")
    answers, confidence = probs.argmax(axis=1), probs.max(axis=1)
    claims = []
    for c, label in enumerate(labels):
        mine = answers == c
        threshold = lowest_threshold(confidence[mine], truth[mine] == c, wanted)
        counted = mine if threshold is None else mine & (confidence >= threshold)
        n_right = int((truth[counted] == c).sum())
        claims.append(Claim(label, threshold, int(counted.sum()), n_right, int((truth == c).sum())))
    return Thresholds(Precision(wanted=wanted, n=len(truth), source=source), claims)


def lowest_threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_], wanted: float) -> float | None:
    """The lowest confidence at which those at or above it are right often enough; None: there is none. Args: both [n]."""
    order = np.argsort(-confidence, kind="stable")
    falling, hits = confidence[order], np.cumsum(right[order])
    n_claims = np.arange(1, len(order) + 1)
    last_of_equals = np.append(falling[1:] != falling[:-1], True) if len(order) else np.array([], dtype=bool)
    good = last_of_equals & (n_claims >= MIN_CLAIMS) & (hits >= wanted * n_claims - 1e-9)  # 9 of 10 are 0.9, whatever the last bit
    return float(falling[good][-1]) if good.any() else None


def check_precision(wanted: float) -> None:
    """Refuse what is no precision; raises UserError."""
    if not 0 < wanted <= 1:  # this way round, NaN is refused too
        raise UserError(f"precision is {wanted:g}; it must be above 0 and at most 1")


def meaning(precision: Precision) -> str:
    """A line on whose labels stand behind a precision."""
    if precision.source == "gold":
        return f"precision {precision.wanted:g} was chosen on {precision.n} texts that a person labelled"
    return (
        f"precision {precision.wanted:g} means agreement with the teacher on {precision.n} held-out texts, not with people; "
        "for that: potstill calibrate CHECKPOINT GOLD"
    )


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, within 0 to 1; (0, 1) without a trial.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = n_right / n, Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
