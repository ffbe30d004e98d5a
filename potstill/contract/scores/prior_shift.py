"""Prior shift: estimate the label shares of texts where labels are more or less frequent than in the calibration texts.

The texts of each label must look alike in both; only the frequency of the label may differ. Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

MIN_TEXTS = 50  # with fewer, the interval of a share is wider than most shifts
MIN_SHARE = 1e-3  # smallest share: a label that no text seems to have remains possible
N_RESAMPLES = 200
MAX_STEPS = 2000
TOLERANCE = 1e-6  # largest change of a share in the last EM step


@dataclass(frozen=True)
class Shift:
    """The label shares of some texts, and those that the probabilities were calibrated for."""

    source: _Floats  # [C]
    shares: _Floats  # [C], sums to 1; at least `MIN_SHARE`
    low: _Floats  # [C], of the 95 % percentile bootstrap interval over texts
    high: _Floats
    p_value: float  # of the likelihood-ratio test that the shares are equal, 0 to 1
    n: int  # number of texts

    @property
    def bias(self) -> _Floats:
        """float64 [C], added to logits: the logarithm of each label's share divided by its share in calibration."""
        return np.asarray(np.log(self.shares / self.source))


def estimate(probs: _Floats, source: _Floats, *, seed: int = 0) -> Shift:
    """Estimate the label shares of texts by maximum likelihood.

    Args:
        probs: calibrated probabilities, float [N, C]; rows sum to 1.
        source: label shares they were calibrated for, float [C], each above 0; sums to 1.
        seed: of the bootstrap.
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
    """Convert probabilities [N, C] to the new label shares, float64 [N, C]; rows sum to 1. Source: as :func:`estimate`."""
    weights = probs * (shift.shares / shift.source)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def chi_squared_tail(value: float, freedom: int) -> float:
    """Probability that a chi-squared variable exceeds the value (at least 0); `freedom` is an integer, at least 1.

    Computed by the recurrence of the incomplete gamma function, so that a server does not need scipy.
    """
    x = value / 2
    a, tail = (0.5, math.erfc(math.sqrt(x))) if freedom % 2 else (1.0, math.exp(-x))
    while a < freedom / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1)) if x > 0 else 0.0
        a += 1
    return min(1.0, tail)


def _most_likely(ratios: _Floats, times: _Floats, start: _Floats) -> _Floats:
    """Label shares, float64 [C], by EM; `times` [N] is how often each text counts."""
    shares = start
    for _ in range(MAX_STEPS):
        weights = ratios * shares
        weights /= weights.sum(axis=1, keepdims=True)
        last, shares = shares, np.asarray(times @ weights / times.sum())
        if np.abs(shares - last).max() < TOLERANCE:
            break
    shares = np.maximum(shares, MIN_SHARE)
    return np.asarray(shares / shares.sum())
