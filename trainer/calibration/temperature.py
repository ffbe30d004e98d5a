"""Temperature scaling: one number that makes a student's probabilities mean what they say.

Axes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import entr, log_softmax, softmax

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
    likeliest: float | None = None  # the one under which the targets are most likely, where a student is made as sure as they are

    def as_text(self) -> str:
        """`1.32 (log-loss 0.94 -> 0.91 on 70 texts)`, `1.05 (as sure as the teacher ...)`, or `1 (not fitted: ...)`."""
        if self.reason:
            return f"{self.value:g} (not fitted: {self.reason})"
        if self.likeliest:
            return f"{self.value:.3f} (as sure as the teacher on {self.n} texts; {self.likeliest:.3f} would match its answers best)"
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


def as_sure_as_teacher(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Temperature:
    """The temperature of a student that is as sure as its teacher: with the same mean entropy, on the same texts.

    Fitted to the teacher's answers, a student is less sure than the teacher: it answers what the teacher would say on average over
    texts that look alike to it, and a mean is flatter than what it is the mean of. But what a student averages away is mostly its
    teacher's noise (docs/log.md has what this gains on gold). A student that agrees with its teacher less often than the teacher
    trusts itself has not learned enough for that, and is left at :func:`fit_temperature`; nobody is made less sure than that.

    Args:
        logits: float [N, C], finite.
        targets: float [N, C], the teacher's distributions, rows sum to 1.
    """
    fitted = fit_temperature(logits, targets)
    wanted = float(np.mean(entr(targets).sum(axis=1)))
    agreement = float(np.mean(logits.argmax(axis=1) == targets.argmax(axis=1)))
    if fitted.reason or agreement < float(np.mean(targets.max(axis=1))):
        return fitted
    if not _entropy(logits, BOUNDS[0]) < wanted < _entropy(logits, fitted.value):
        return fitted
    value = float(np.exp(brentq(lambda log_t: _entropy(logits, np.exp(log_t)) - wanted, np.log(BOUNDS[0]), np.log(fitted.value))))
    after = negative_log_likelihood(logits, targets, value)
    return Temperature(value, fitted.n, fitted.nll_before, after, likeliest=fitted.value)


def _entropy(logits: NDArray[np.float64], temperature: float) -> float:
    """Mean entropy of the distributions, in nats. Args: logits float [N, C]."""
    return float(np.mean(entr(softmax(logits / temperature, axis=1)).sum(axis=1)))


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
