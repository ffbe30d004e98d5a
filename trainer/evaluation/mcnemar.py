"""McNemar's test: whether two classifiers differ in accuracy on the same texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """The texts that one of two classifiers got right and the other wrong, and how likely chance splits them so unevenly."""

    n_first: int  # only the first was right
    n_second: int  # only the second was right
    p: float  # two-sided and exact, 0 to 1; 1 where they never differ


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """The exact test: under the null hypothesis each discordant text is a fair coin.

    Args: first_right, second_right bool [N], of the same texts in the same order.
    Source: McNemar 1947, Psychometrika 12(2), in the exact binomial form.
    """
    n_first = int(np.sum(first_right & ~second_right))
    n_second = int(np.sum(second_right & ~first_right))
    n = n_first + n_second
    return McNemar(n_first, n_second, float(binomtest(n_first, n, 0.5).pvalue) if n else 1.0)
