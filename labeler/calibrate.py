"""Taking the teacher's habit of preferring one label out of its probabilities, without any gold label.

Axes: N paths of one prompt variant, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

_MAX_STEPS = 200
_TOLERANCE = 1e-6  # largest accepted gap between a label's share and its prior


def batch_calibrated(logprobs: NDArray[np.float64], prior: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Log-probabilities after one shift per label that makes the labels' mean probabilities equal the prior.

    One step of the iteration, with an even prior, is batch calibration (Zhou et al. 2023, arXiv:2309.17249, equation 4): divide by
    the mean probability and normalise. After that one step the means are still uneven when the teacher is very sure of one label;
    repeating it until they are even (iterative proportional fitting on one margin) removes the rest.

    Args:
        logprobs: float [N, C], normalised over C, finite.
        prior: float [C], above 0, sums to 1: the wanted share of each label; None means even shares.
    Returns:
        float [N, C], normalised over C; the exponentials' column means equal the prior within 1e-6.
    """
    n, n_labels = logprobs.shape
    log_prior = np.log(np.full(n_labels, 1 / n_labels) if prior is None else prior)
    shifted = logprobs
    for _ in range(_MAX_STEPS):
        log_mean = logsumexp(shifted, axis=0) - np.log(n)
        if np.abs(np.exp(log_mean) - np.exp(log_prior)).max() < _TOLERANCE:
            break
        shifted = log_softmax(shifted + log_prior - log_mean, axis=1)
    return np.asarray(shifted, dtype=np.float64)


def sharpened(logprobs: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """The distributions raised to a power and normalised; no favourite changes.

    Args:
        logprobs: float [N, C], normalised over C.
        power: above 0, no unit; 1 changes nothing, larger is surer.
    Returns:
        float [N, C], normalised over C.
    """
    return np.asarray(log_softmax(power * logprobs, axis=1), dtype=np.float64)


def label_logprobs(word_logprobs: NDArray[np.float64], word_labels: list[int], n_labels: int) -> NDArray[np.float64]:
    """Log-probability of each label: the sum over its words. Args: float [N, W]; each word's label. Returns: float [N, C]."""
    return np.stack(
        [logsumexp(word_logprobs[:, [w for w, k in enumerate(word_labels) if k == label]], axis=1) for label in range(n_labels)],
        axis=1,
    )
