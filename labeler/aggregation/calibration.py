"""Remove the teacher's preference for single labels from its probabilities, without gold labels; sharpen distributions.

Axes: N paths of one prompt variant, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import entr, log_softmax, logsumexp, softmax

from potstill.labeler.aggregation.config import DeriveConfig

_MAX_STEPS = 200
_TOLERANCE = 1e-6  # largest accepted gap between a label's share and its prior
_MAX_HALVINGS = 40  # of a step where the curvature is nearly 0, as it is for a teacher that is always sure
_DESCENT = 1e-4  # required fraction of the predicted descent: Armijo's rule with its usual constant
_MAX_POWER = 20.0  # for distributions that were almost certain and are almost even now: a higher power adds nothing
_TINY = 1e-12
_RIDGE = 1e-9  # the curvature is 0 along an equal shift of all labels, which changes nothing


def batch_calibrated(
    logprobs: NDArray[np.float64], prior: NDArray[np.float64] | None = None, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Shift each label's log-probabilities so that the labels' mean probabilities equal the prior.

    With an even prior, one step of iterative proportional fitting is batch calibration (Zhou et al. 2023, arXiv:2309.17249,
    equation 4): divide by the mean probability and normalise. When the teacher is very sure of one label, the means are still
    uneven after that step, so fitting continues: the shift is the minimum of a convex function, found by Newton steps that are
    halved until they descend; where none does, a step of proportional fitting is taken, which always descends.

    Args:
        logprobs: float [N, C], normalised over C, finite.
        prior: float [C], above 0, sums to 1: the wanted share of each label; None means even shares.
        weights: float [N], at least 0, not all 0: the weight of each path in the means; None means equal weights.
    Returns:
        float [N, C], normalised over C; the weighted column means of the probabilities equal the prior within 1e-6.
    """
    return np.asarray(log_softmax(logprobs + label_shift(logprobs, prior, weights), axis=1), dtype=np.float64)


def label_shift(
    logprobs: NDArray[np.float64], prior: NDArray[np.float64] | None = None, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """What :func:`batch_calibrated` adds to each label's log-probabilities, float [C], with mean 0; its arguments.

    A label may have the logarithm -inf in some rows, if not in all, and no row may lack them all.
    """
    n, n_labels = logprobs.shape
    prior = np.full(n_labels, 1 / n_labels) if prior is None else prior
    weights = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    by_label = np.ascontiguousarray(logprobs.T)  # [C, N]: sums over few labels are then sums of long rows
    log_prior, shift = np.log(prior), np.log(prior) - _log_means(by_label, weights)  # one step of fitting comes near from any start
    here = _fit(by_label, shift, weights, prior)
    for _ in range(_MAX_STEPS):
        gap = here.means - prior
        if np.abs(gap).max() < _TOLERANCE:
            break
        curvature = np.diag(here.means) - (here.probs * weights) @ here.probs.T  # [C, C]
        step = -np.linalg.solve(curvature + _RIDGE * np.eye(n_labels), gap)
        for n_halvings in range(_MAX_HALVINGS):
            change = step / 2**n_halvings
            there = _fit(by_label, shift + change, weights, prior)
            if there.height < here.height + _DESCENT * gap @ change:
                break
        else:
            shifted = by_label + shift[:, None]
            change = log_prior - _log_means(shifted - logsumexp(shifted, axis=0), weights)  # a step of proportional fitting
            there = _fit(by_label, shift + change, weights, prior)
        shift, here = shift + change, there
        shift -= shift.mean()  # an equal shift of all labels moves neither probabilities nor height
    return shift


@dataclass(frozen=True)
class _Fit:
    """What a shift makes of the paths."""

    probs: NDArray[np.float64]  # [C, N]
    means: NDArray[np.float64]  # [C], weighted over the paths
    height: float  # of the convex function to minimise; its gradient is the gap between the means and the prior


def _fit(
    by_label: NDArray[np.float64], shift: NDArray[np.float64], weights: NDArray[np.float64], prior: NDArray[np.float64]
) -> _Fit:
    """Apply a shift. Args: float [C, N]; float [C]; float [N], sums to 1; float [C]."""
    shifted = by_label + shift[:, None]
    largest = shifted.max(axis=0)
    probs = np.exp(shifted - largest)  # no overflow, however sure the teacher is
    total = probs.sum(axis=0)
    probs /= total
    return _Fit(probs, probs @ weights, float(weights @ (largest + np.log(total)) - prior @ shift))


def _log_means(by_label: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the labels' weighted mean probabilities, also of those too small for a float. Args: float [C, N]; float [N]."""
    with np.errstate(divide="ignore"):  # a path of weight 0 has the logarithm -inf
        return np.asarray(logsumexp(by_label + np.log(weights), axis=1))


def sharpened(logprobs: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Raise the distributions to a power and normalise them; the most probable label stays the same.

    Args:
        logprobs: float [N, C], normalised over C.
        power: above 0, no unit; 1 changes nothing, a larger one makes distributions surer.
    Returns:
        float [N, C], normalised over C.
    """
    return np.asarray(log_softmax(power * logprobs, axis=1), dtype=np.float64)


def as_sure_as(probs: NDArray[np.float64], surer: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sharpen the distributions until their mean entropy equals that of others.

    They are sharpened relative to their mean distribution, so a common label, which is likely everywhere, gains nothing by it.

    Args:
        probs: float [N, C], rows sum to 1.
        surer: float [M, C], rows sum to 1. If its mean entropy is not lower, nothing changes.
    Returns:
        float [N, C], rows sum to 1.
    """
    log_mean = np.log(np.clip(probs.mean(axis=0), _TINY, 1))
    lift = np.log(np.clip(probs, _TINY, 1)) - log_mean

    def excess(power: float) -> float:
        """Mean entropy minus the wanted one, in nats; it falls as the power grows."""
        return _mean_entropy(softmax(power * lift + log_mean, axis=1)) - _mean_entropy(surer)

    if excess(1.0) <= 0:
        return probs
    power = _MAX_POWER if excess(_MAX_POWER) > 0 else float(brentq(excess, 1.0, _MAX_POWER, xtol=1e-6))
    return np.asarray(softmax(power * lift + log_mean, axis=1), dtype=np.float64)


def _mean_entropy(probs: NDArray[np.float64]) -> float:
    """Mean entropy of the rows, in nats."""
    return float(entr(probs).sum(axis=1).mean())


def prior_shares(config: DeriveConfig, labels: Sequence[str]) -> NDArray[np.float64]:
    """The wanted share of each label, float [C], above 0, sums to 1: the stated prior in the labels' order, or even shares."""
    if config.prior is None:
        return np.full(len(labels), 1 / len(labels))
    shares = np.array([config.prior[label] for label in labels], dtype=np.float64)
    return np.asarray(shares / shares.sum())
