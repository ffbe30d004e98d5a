"""Temperature scaling: one number that calibrates a student's probabilities.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import entr, log_softmax, softmax

from potstill.trainer.students.encoder import Encoder

MIN_TEXTS = 30  # on fewer texts the fit follows chance more than the miscalibration
BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class Temperature:
    """A divisor for logits, and the reason if it was not fitted."""

    value: float  # above 0
    n: int  # texts that were there to fit on
    nll_before: float  # nats a text, at temperature 1
    nll_after: float
    reason: str = ""  # empty: fitted
    nll_optimum: float | None = None  # temperature of the lowest log-loss, where the value matches the teacher's entropy instead

    def as_text(self) -> str:
        """`1.32 (log-loss 0.94 -> 0.91 on 70 texts)`, `1.05 (matches the teacher ...)`, or `1 (not fitted: ...)`."""
        if self.reason:
            return f"{self.value:g} (not fitted: {self.reason})"
        if self.nll_optimum:
            return (
                f"{self.value:.3f} (matches the teacher's entropy on {self.n} texts; log-loss is lowest at {self.nll_optimum:.3f})"
            )
        return f"{self.value:.3f} (log-loss {self.nll_before:.3f} -> {self.nll_after:.3f} on {self.n} texts)"


def fit_temperature(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Temperature:
    """Fit the temperature with the lowest log-loss.

    The targets are whole distributions: where the teacher was undecided, a student that is certain pays for it.

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
    value, after = minimize_nll(logits, targets)
    return Temperature(value, n, before, after)


def match_teacher_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Temperature:
    """Fit the temperature at which the student's mean entropy equals its teacher's on the same texts.

    At the lowest log-loss a student is less certain than its teacher: it answers the teacher's mean over texts that look alike to
    it, and a mean is flatter. But what it averages away is mostly the teacher's noise (docs/log.md has the gain on gold). A
    student whose agreement with the teacher is below the teacher's mean confidence has not learned enough for that, and keeps the
    result of :func:`fit_temperature`; no student is made less certain than that.

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
    return Temperature(value, fitted.n, fitted.nll_before, after, nll_optimum=fitted.value)


def _entropy(logits: NDArray[np.float64], temperature: float) -> float:
    """Mean entropy of softmax(logits / temperature), in nats. Args: logits float [N, C]."""
    return float(np.mean(entr(softmax(logits / temperature, axis=1)).sum(axis=1)))


def minimize_nll(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """(temperature, negative log-likelihood in nats) at the lowest negative log-likelihood, for any number of texts.

    Args: logits, targets float [N, C].
    """
    # over log T the curve has one minimum, and equal steps are equal factors
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


def apply_temperature(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """float64 [N, C]: softmax(logits / temperature); rows sum to 1. Args: logits float [N, C]; temperature above 0."""
    probs: NDArray[np.float64] = softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return probs


def calibrated_probs(
    student: Encoder, texts: Sequence[tuple[str, str | None]], temperature: float, stage: str = ""
) -> NDArray[np.float64]:
    """float64 [N, C]: the student's answers to (text, target) pairs; rows sum to 1.

    Args:
        student: an encoder with a head.
        texts: [N].
        temperature: above 0.
        stage: as :meth:`Encoder.logits` has it.
    """
    return apply_temperature(student.logits(student.encode(texts), stage).astype(np.float64), temperature)
