"""How far people agree beyond chance: Cohen's kappa of two people, Krippendorff's alpha of any number.

Axes: N texts, R raters, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MISSING = -1  # a rater has not labelled that text
HUMAN_AGREEMENT = 0.7  # of people about the stance of posts, as arXiv 2212.11311 reports it


@dataclass(frozen=True)
class Shares:
    """A share of texts with its interval."""

    n: int
    share: float
    low: float
    high: float


def cohen_kappa(one: NDArray[np.int64], other: NDArray[np.int64], n_labels: int) -> float:
    """Agreement of two raters beyond chance: 1 is perfect, 0 is chance; NaN where chance alone agrees always, or N is 0.

    Args:
        one, other: int [N], labels of the same texts, each below C.
        n_labels: C.
    Source: Cohen 1960, Educational and Psychological Measurement 20(1).
    """
    if not len(one):
        return math.nan
    observed = float(np.mean(one == other))
    shares = [np.bincount(labels, minlength=n_labels) / len(labels) for labels in (one, other)]
    expected = float(shares[0] @ shares[1])
    return math.nan if expected >= 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(ratings: NDArray[np.int64], values: Sequence[float] | None = None, n_labels: int = 0) -> float:
    """Agreement of any number of raters beyond chance, where not everybody labels everything; NaN if nothing can be compared.

    Args:
        ratings: int [R, N], labels below C; MISSING where a rater has not labelled a text.
        values: what each label is worth, float [C]: differences count by their square (interval level). None: labels either
            agree or not (nominal level).
        n_labels: C, where `values` is None.
    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    n_labels = len(values) if values is not None else n_labels
    pairs = np.zeros((n_labels, n_labels))  # coincidences
    for unit in ratings.T:
        counts = np.bincount(unit[unit != MISSING], minlength=n_labels).astype(float)
        n = counts.sum()
        if n > 1:
            pairs += (np.outer(counts, counts) - np.diag(counts)) / (n - 1)
    totals = pairs.sum(axis=1)
    n = totals.sum()
    if n <= 1:
        return math.nan
    if values is None:
        distances = 1.0 - np.eye(n_labels)
    else:
        worth = np.asarray(values, dtype=float)
        distances = (worth[:, None] - worth[None, :]) ** 2
    expected = float((np.outer(totals, totals) * distances).sum() / (n - 1))
    return math.nan if expected == 0 else 1 - float((pairs * distances).sum()) / expected


def share_with_interval(n_right: int, n: int) -> Shares:
    """A share of n texts with Wilson's 95 % interval; all NaN if n is 0.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    if not n:
        return Shares(0, math.nan, math.nan, math.nan)
    z, share = 1.959963984540054, n_right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Shares(n, share, max(0.0, middle - half), min(1.0, middle + half))
