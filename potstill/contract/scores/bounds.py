"""Exact bounds on a share from a sample: what can be promised of texts to come, with a stated confidence.

Source: Clopper and Pearson 1934, Biometrika 26(4): the bounds are the shares that the exact binomial test just does not refuse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from potstill.contract.errors import UserError

Rule = Literal["bound", "point"]  # what is stated: a bound with a confidence, or the score on the texts at hand
SHIFT_LEVEL = 0.05  # of significance: correcting other label shares that are not significant costs accuracy
_STEPS = 60  # halvings of an interval of shares: beyond the precision of a float


@dataclass(frozen=True)
class Promise:
    """How a loss, a precision or a coverage is promised.

    Raises:
        UserError: if a value is not allowed.
    """

    rule: Rule = "bound"  # point: what holds on the texts at hand; on texts to come it is missed about every second time
    confidence: float = 0.95  # that a bound holds on texts of the same kind, at least 0.5 and below 1

    def __post_init__(self) -> None:
        """Check both values."""
        if self.rule not in ("bound", "point"):
            raise UserError(f"rule is {self.rule!r}; allowed: bound, point")
        if not 0.5 <= self.confidence < 1:
            raise UserError(f"confidence is {self.confidence:g}; it must be at least 0.5 and below 1")

    @property
    def error(self) -> float | None:
        """The probability that a bound may fail; None for the point rule, which bounds nothing."""
        return None if self.rule == "point" else 1 - self.confidence


def tail(n_right: int, n: int, share: float) -> float:
    """Probability that at least `n_right` of `n` independent texts are right, if each one is with this probability.

    Args:
        n_right, n: counts, 0 <= n_right <= n.
        share: 0 to 1.
    Raises:
        ValueError: if the counts or the share are out of range.
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"{n_right} of {n} is no share")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    if n_right == 0 or share == 1:
        return 1.0
    if share == 0:
        return 0.0
    if n_right <= share * n:  # the other side has fewer terms that count
        return 1.0 - _sum(n - n_right + 1, n, 1 - share)
    return _sum(n_right, n, share)


def _sum(first: int, n: int, share: float) -> float:
    """The sum of the binomial probabilities of `first` and more; the terms fall from `first` on, or nearly so."""
    log_term = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    term = math.exp(log_term + first * math.log(share) + (n - first) * math.log1p(-share))
    total, odds = 0.0, share / (1 - share)
    for k in range(first, n + 1):
        total += term
        term *= odds * (n - k) / (k + 1)
        if term < total * 1e-17:
            break
    return min(1.0, total)


def lower_bound(n_right: int, n: int, confidence: float) -> float:
    """The share that the true one is at least, with this confidence; 0 without a text.

    Args:
        n_right, n: counts, 0 <= n_right <= n.
        confidence: above 0 and below 1, of this side alone.
    """
    if n_right == 0:
        return 0.0
    low, high = 0.0, n_right / n
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(n_right, n, middle) <= 1 - confidence else (low, middle)
    return low


def upper_bound(n_right: int, n: int, confidence: float) -> float:
    """The share that the true one is at most, with this confidence; 1 without a text. Args: as for :func:`lower_bound`."""
    return 1.0 - lower_bound(n - n_right, n, confidence)


def fewest_texts(share: float, confidence: float) -> int:
    """The number of texts, all of them right, from which on a share is certified.

    Args:
        share: above 0 and below 1.
        confidence: above 0 and below 1.
    """
    return math.ceil(math.log(1 - confidence) / math.log(share) - 1e-9)
