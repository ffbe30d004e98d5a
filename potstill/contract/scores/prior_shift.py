"""Answers for texts among which the labels are more or less frequent than among those the student was calibrated on.

What a label looks like must be the same there and here; only how often it occurs may differ. Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

LEVEL = 0.05  # of significance: shares that differ less clearly are left alone, since adjusting by chance costs more than it gains
MIN_TEXTS = 50  # on fewer, the interval of a share is wider than most shifts
MIN_SHARE = 1e-3  # of a label: one that no text seems to have stays possible
N_RESAMPLES = 200
MAX_STEPS = 2000
TOLERANCE = 1e-6  # of a share, between two steps


@dataclass(frozen=True)
class Shift:
    """The label shares of some texts against those that probabilities were made for."""

    source: _Floats  # [C]
    shares: _Floats  # [C], sums to 1; at least `MIN_SHARE`
    low: _Floats  # [C], of the 95 % percentile bootstrap interval over texts
    high: _Floats
    p_value: float  # how often equal shares would look at least this different
    n: int  # texts

    @property
    def bias(self) -> _Floats:
        """[C]: what is added to logits; the logarithm of how many times more frequent each label is."""
        return np.asarray(np.log(self.shares / self.source))


def estimate(probs: _Floats, source: _Floats, *, seed: int = 0) -> Shift:
    """The label shares under which the texts are most likely.

    Args:
        probs: calibrated probabilities, float [N, C]; rows sum to 1.
        source: label shares that they were calibrated for, float [C], each above 0; sums to 1.
    Raises:
        ValueError: if there is no text.
    Source: Saerens, Latinne, Decaestecker 2002, Neural Computation 14(1): EM for the shares, likelihood-ratio test of their change.
    """
    n, n_classes = probs.shape
    if n == 0:
        raise ValueError("no text to estimate label shares from")
    ratios = probs / source  # [N, C], proportional to how likely a text is under each label
    shares = _most_likely(ratios, np.ones(n), source)
    rng = np.random.default_rng(seed)
    draws = (rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(N_RESAMPLES))
    low, high = np.percentile([_most_likely(ratios, times, shares) for times in draws], [2.5, 97.5], axis=0)
    statistic = 2 * float(np.log(ratios @ shares).sum())  # under the source shares every text's sum is 1, its logarithm 0
    return Shift(source, shares, low, high, chi_squared_tail(max(0.0, statistic), n_classes - 1), n)


def adjusted(probs: _Floats, shift: Shift) -> _Floats:
    """float64 [N, C]: the probabilities under the new shares; rows sum to 1. Source: as :func:`estimate`."""
    weights = probs * (shift.shares / shift.source)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def chi_squared_tail(value: float, freedom: int) -> float:
    """Probability that a chi-squared variable exceeds the value (at least 0); `freedom` is a whole number, at least 1.

    By the recurrence of the incomplete gamma function, so that a server needs no scipy.
    """
    x = value / 2
    a, tail = (0.5, math.erfc(math.sqrt(x))) if freedom % 2 else (1.0, math.exp(-x))
    while a < freedom / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1)) if x > 0 else 0.0
        a += 1
    return min(1.0, tail)


def _most_likely(ratios: _Floats, times: _Floats, start: _Floats) -> _Floats:
    """Label shares [C] by EM; each text counts as many times as `times` [N] says."""
    shares = start
    for _ in range(MAX_STEPS):
        weights = ratios * shares
        weights /= weights.sum(axis=1, keepdims=True)
        last, shares = shares, np.asarray(times @ weights / times.sum())
        if np.abs(shares - last).max() < TOLERANCE:
            break
    shares = np.maximum(shares, MIN_SHARE)
    return np.asarray(shares / shares.sum())
