"""Temperature scaling: one number that makes a student's probabilities mean what they say.

Axes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

MIN_TEXTS = 30  # one number fitted on fewer texts moves more by chance than by what it corrects
BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """A divisor for logits, and why it was not fitted if it was not."""

    value: float  # above 0
    n: int  # texts it was fitted on, or could have been
    nll_before: float  # nats a text, at temperature 1
    nll_after: float
    reason: str = ""  # empty: fitted

    def as_text(self) -> str:
        """`1.32 (log-loss 0.94 -> 0.91 on 70 texts)`, or `1 (not fitted: ...)`."""
        if self.reason:
            return f"{self.value:g} (not fitted: {self.reason})"
        return f"{self.value:.3f} (log-loss {self.nll_before:.3f} -> {self.nll_after:.3f} on {self.n} texts)"


def fit_temperature(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Temperature:
    """The temperature under which the targets are most likely.

    The targets are whole distributions: where the teacher was of two minds, a student that is certain pays for it.

    Args:
        logits: float [N, C], finite.
        targets: float [N, C], rows sum to 1.
    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2.
    """
    n = len(logits)
    before = negative_log_likelihood(logits, targets, 1.0)
    if n < MIN_TEXTS:
        reason = f"{n} validation texts, at least {MIN_TEXTS} are needed"
        return Temperature(1.0, n, before, before, reason)
    value, after = lowest_loss(logits, targets)
    return Temperature(value, n, before, after)


def lowest_loss(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """(temperature, negative log-likelihood in nats) where the latter is lowest, whatever the number of texts.

    Args: logits, targets float [N, C].
    """
    # over log T the curve has one valley, and equal steps are equal factors
    result = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, targets, float(np.exp(log_t))),
        bounds=tuple(np.log(BOUNDS)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(result.x)), float(result.fun)


def negative_log_likelihood(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    """Mean cross-entropy of softmax(logits / temperature) against the targets, in nats. Args: logits, targets float [N, C]."""
    return float(-np.mean(np.sum(targets * log_softmax(logits / temperature, axis=1), axis=1)))


def calibrated(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """float64 [N, C]: softmax of the logits over the temperature; rows sum to 1. Args: logits float [N, C]; temperature above 0."""
    probs: NDArray[np.float64] = softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return probs
