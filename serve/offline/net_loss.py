"""An exact test of the accuracy that one classifier loses against another on the same texts.

A text counts as a harm where only the other one is right, as a gain where only this one is. Source of the statistic: the test of
non-inferiority for paired answers, Nam 1997, Biometrics 53(4); of the exact test over an unknown share: Berger and Boos 1994,
Journal of the American Statistical Association 89(427). Without the share of harms and gains together the test would be binomial;
it is nearly as strong as one, and stronger than a betting bound (`docs/log.md`).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.bounds import upper_bound

UNLIKELY = 1e-3  # probability with which the true share of gains is left out of the search; it is added to the result
WIDTH = 0.05  # of a cell of shares that are judged together, in standard errors of the smallest loss that is tested
MOST_CELLS = 200


def probability_of_less(n_harms: int, n_gains: int, n: int, loss: float) -> float:
    """Probability, at most, of as little loss as was found or less, if the accuracy lost is at least `loss`: a p-value.

    Args:
        n_harms, n_gains: texts that only the other classifier, or only this one, gets right.
        n: texts in all, at least 1.
        loss: harms minus gains as a share of all texts to come, from 0 to 1.
    """
    expected = n * loss
    if loss >= 1:
        return 0.0
    if n_harms - n_gains >= expected:
        return 1.0
    statistic = (expected - n_harms + n_gains) / math.sqrt(n_harms + n_gains + expected / 2)
    statistic = min(statistic, math.sqrt(2 * expected))  # above it, gains alone decide: then the limits below would not rise
    most = min(upper_bound(n_gains, n, 1 - UNLIKELY), (1 - loss) / 2)
    n_cells = min(MOST_CELLS, 1 + math.ceil(most / (WIDTH * math.sqrt(loss / n)))) if loss else 1
    edges = np.linspace(0, most, n_cells + 1)
    return min(1.0, UNLIKELY + _largest(n, loss, statistic, edges[:-1], edges[1:]))


def _largest(n: int, loss: float, statistic: float, low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The probability of at least this statistic, at most, if the share of gains lies in any of the cells from low to high.

    Fewer harms and more gains raise it, so that a cell is judged by its fewest harms and its most gains. The texts that either
    changes are binomial; of these, the harms are too, and their distribution function is carried from one number to the next.
    """
    changed = np.minimum(1.0, low + loss + high)  # [cells], share of texts with a harm or a gain
    harm = (low + loss) / changed  # [cells], share of harms among them
    most = min(n, math.ceil(n * changed[-1] + 8 * math.sqrt(n * changed[-1]) + 20))
    limits = _limits(np.arange(most + 1), n * loss, statistic)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log(np.arange(n, n - most, -1) / np.arange(1, most + 1)))])
    numbers, changed = np.arange(most + 1)[:, None], np.minimum(changed, 1 - 1e-12)
    weights = np.exp(log_choose[:, None] + numbers * np.log(changed) + (n - numbers) * np.log1p(-changed))  # [changed, cells]
    within = np.ones_like(weights)  # P(harms <= limit); of no changed text it is 1
    at_limit, gain = np.ones_like(harm), 1 - harm  # P(harms = limit)
    for k, (last, limit) in enumerate(pairwise(limits.tolist()), start=1):
        within[k] = within[k - 1] - harm * at_limit
        at_limit = at_limit * gain * (k / (k - last))
        if limit > last:
            at_limit = at_limit * (harm / gain) * ((k - last) / limit)
            within[k] += at_limit
    return float(((weights * within).sum(axis=0) + np.maximum(0.0, 1 - weights.sum(axis=0))).max())


def _limits(changed: NDArray[np.int64], expected: float, statistic: float) -> NDArray[np.int64]:
    """For each number of changed texts the most harms with at least this statistic, int [changed]; it rises by 0 or 1."""
    most = (expected + changed - statistic * np.sqrt(changed + expected / 2)) / 2
    return np.asarray(np.clip(np.floor(most + 1e-9).astype(np.int64), 0, changed))
