"""Taking the teacher's habit of preferring one label out of its probabilities, without any gold label.

Axes: N paths of one prompt variant, W label words, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import entr, log_softmax, logsumexp, softmax

_MAX_STEPS = 200
_TOLERANCE = 1e-6  # largest accepted gap between a label's share and its prior
_MAX_HALVINGS = 40  # of a step where the curvature is nearly 0, as it is for a teacher that is always sure
_DESCENT = 1e-4  # part of the descent that the slope promises; Armijo's rule with its usual constant
_MAX_POWER = 20.0  # of distributions that were all but certain before, and are all but even now: they gain no more from more
_TINY = 1e-12
_RIDGE = 1e-9  # the curvature is 0 along a shift of all labels at once, which changes nothing


def batch_calibrated(
    logprobs: NDArray[np.float64], prior: NDArray[np.float64] | None = None, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Log-probabilities after one shift per label that makes the labels' mean probabilities equal the prior.

    With an even prior, one step of iterative proportional fitting is batch calibration (Zhou et al. 2023, arXiv:2309.17249,
    equation 4): divide by the mean probability and normalise. After that one step the means are still uneven when the teacher is
    very sure of one label. Fitting on removes the rest: the shift is the minimum of a convex function, so Newton's steps are taken,
    halved until they descend, and a step of proportional fitting, which always does, where none would.

    Args:
        logprobs: float [N, C], normalised over C, finite.
        prior: float [C], above 0, sums to 1: the wanted share of each label; None means even shares.
        weights: float [N], at least 0, not all 0: what each path counts in the means; None: all the same.
    Returns:
        float [N, C], normalised over C; the exponentials' weighted column means equal the prior within 1e-6.
    """
    n, n_labels = logprobs.shape
    prior = np.full(n_labels, 1 / n_labels) if prior is None else prior
    weights = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    with np.errstate(divide="ignore"):  # a path that does not count has the logarithm -inf
        log_weights = np.log(weights)[:, None]  # [N, 1]

    def height(shift: NDArray[np.float64]) -> float:
        """The convex function: its slope is the gap between the labels' means and the prior."""
        return float(weights @ logsumexp(logprobs + shift, axis=1) - prior @ shift)

    shift = np.log(prior) - logsumexp(logprobs + log_weights, axis=0)  # one step of fitting: it comes near from however far
    for _ in range(_MAX_STEPS):
        shifted = log_softmax(logprobs + shift, axis=1)
        log_mean = logsumexp(shifted + log_weights, axis=0)
        probs, gap = np.exp(shifted), np.exp(log_mean) - prior
        if np.abs(gap).max() < _TOLERANCE:
            break
        curvature = np.diag(np.exp(log_mean)) - probs.T @ (weights[:, None] * probs)  # [C, C]
        step = -np.linalg.solve(curvature + _RIDGE * np.eye(n_labels), gap)
        here, fitting = height(shift), np.log(prior) - log_mean
        halved = (step / 2**n for n in range(_MAX_HALVINGS))
        shift = shift + next((s for s in halved if height(shift + s) < here + _DESCENT * gap @ s), fitting)
        shift -= shift.mean()
    return np.asarray(log_softmax(logprobs + shift, axis=1), dtype=np.float64)


def sharpened(logprobs: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """The distributions raised to a power and normalised; no favourite changes.

    Args:
        logprobs: float [N, C], normalised over C.
        power: above 0, no unit; 1 changes nothing, larger is surer.
    Returns:
        float [N, C], normalised over C.
    """
    return np.asarray(log_softmax(power * logprobs, axis=1), dtype=np.float64)


def as_sure_as(probs: NDArray[np.float64], surer: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distributions sharpened until their mean entropy is that of others, relative to their mean distribution.

    Relative to the mean, so that a label that is common, and likely everywhere for that, gains nothing by it.

    Args:
        probs: float [N, C], rows sum to 1.
        surer: float [M, C], rows sum to 1. If its mean entropy is not the lower one, nothing changes.
    Returns:
        float [N, C], rows sum to 1.
    """
    log_mean = np.log(np.clip(probs.mean(axis=0), _TINY, 1))
    lift = np.log(np.clip(probs, _TINY, 1)) - log_mean

    def excess(power: float) -> float:
        """Mean entropy over the wanted one, in nats; it falls as the power grows."""
        return _mean_entropy(softmax(power * lift + log_mean, axis=1)) - _mean_entropy(surer)

    if excess(1.0) <= 0:
        return probs
    power = _MAX_POWER if excess(_MAX_POWER) > 0 else float(brentq(excess, 1.0, _MAX_POWER, xtol=1e-6))
    return np.asarray(softmax(power * lift + log_mean, axis=1), dtype=np.float64)


def _mean_entropy(probs: NDArray[np.float64]) -> float:
    """In nats, over the rows."""
    return float(entr(probs).sum(axis=1).mean())


def label_logprobs(word_logprobs: NDArray[np.float64], word_labels: list[int], n_labels: int) -> NDArray[np.float64]:
    """Log-probability of each label: the sum over its words. Args: float [N, W]; each word's label. Returns: float [N, C]."""
    return np.stack(
        [logsumexp(word_logprobs[:, [w for w, k in enumerate(word_labels) if k == label]], axis=1) for label in range(n_labels)],
        axis=1,
    )
