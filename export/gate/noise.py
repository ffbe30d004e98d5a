"""How much of a difference chance explains, so that on few texts one label that flips decides nothing."""

from __future__ import annotations

import math

LEVEL = 0.05  # a form is refused when chance does as much in fewer than one of twenty such sets of texts


def explained_flips(n: int, rate: float) -> int:
    """The most texts of n that chance lets flip where each flips with this rate: more have a probability of at most `LEVEL`.

    An exact binomial test, one-sided: refusing from one flip more on is right in all but `LEVEL` of the cases.

    Args:
        n: texts, at least 0.
        rate: of a flip, 0 to 1; 0 explains none.
    """
    at_least = 1.0  # P(X >= k)
    for k in range(n + 1):
        at_least -= _probability(k, n, rate)  # now P(X >= k + 1)
        if at_least <= LEVEL:
            return k
    return n


def _probability(k: int, n: int, rate: float) -> float:
    """Of k flips among n, each with this rate."""
    if rate in (0.0, 1.0):
        return float(k == n * rate)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(rate) + (n - k) * math.log1p(-rate))
