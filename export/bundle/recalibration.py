"""Carrying thresholds and label sets over to the form that is exported.

What they promise was measured on the checkpoint's probabilities, on texts that need not be here any more. So each is moved by as
much as the probability at the same rank moved: as many validation texts pass it as before. Axes: N texts, C classes.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.decision import Conformal

Float64Array = NDArray[np.float64]

MIN_CLAIMS = 10  # probabilities at or above a threshold; the place of the lowest among fewer is chance


def carry_thresholds(
    thresholds: dict[str, float | None] | None, labels: list[str], reference: Float64Array, found: Float64Array
) -> dict[str, float | None] | None:
    """The thresholds at which as many validation texts are answered with each label as the checkpoint's own let pass.

    A threshold that fewer than ten texts pass stays as it is. Equal probabilities change nothing.

    Args:
        thresholds: of the checkpoint.
        labels: in output order.
        reference: the checkpoint's probabilities [N, C].
        found: those of the form that is exported, [N, C].
    """
    if thresholds is None:
        return None
    carried = {}
    for name, least in thresholds.items():
        c = labels.index(name)
        before, after = (probs[probs.argmax(axis=1) == c, c] for probs in (reference, found))
        carried[name] = None if least is None else carry_cutoff(least, before, after)
    return carried


def carry_label_sets(conformal: Conformal | None, reference: Float64Array, found: Float64Array) -> Conformal | None:
    """The quantile at which the sets of all validation texts together hold as many labels as before. Args as above."""
    if conformal is None:
        return None
    least = carry_cutoff(1 - conformal.quantile, reference.ravel(), found.ravel())
    return msgspec.structs.replace(conformal, quantile=1 - least)


def carry_cutoff(least: float, before: Float64Array, after: Float64Array) -> float:
    """Where as many of ``after`` are at or above as of ``before`` at ``least``; from 0 to 1. Args: before [n], after [m]."""
    n_passing = int((before >= least).sum())
    if n_passing < MIN_CLAIMS or len(after) < MIN_CLAIMS:
        return least
    lowest = np.sort(before)[-n_passing]
    now = np.sort(after)[-min(n_passing, len(after))]
    return float(min(1.0, max(0.0, least + float(now - lowest))))


MIN_TEXTS = 30  # on fewer texts a fit says more about chance than about quantization
GRID = np.exp(np.linspace(np.log(0.05), np.log(20), 1201))  # half a percent from step to step


def correct_temperature(temperature: float, reference: Float64Array, logits: Float64Array, targets: Float64Array) -> float:
    """The checkpoint's temperature times how much more, or less, the new logits need than those it was fitted on.

    A ratio of two fits, so that whatever the trainer fitted on stays the basis, and equal logits change nothing.

    Args:
        temperature: of the checkpoint, above 0.
        reference: logits of the float model, [N, C].
        logits: of the form that is exported, [N, C].
        targets: distributions, [N, C]; rows sum to 1.
    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2.
    """
    if len(targets) < MIN_TEXTS:
        return temperature
    return temperature * fitted(logits, targets) / fitted(reference, targets)


def fitted(logits: Float64Array, targets: Float64Array) -> float:
    """The temperature of the grid under which the targets are most likely."""
    losses = [cross_entropy(logits, targets, float(temperature)) for temperature in GRID]
    return float(GRID[int(np.argmin(losses))])


def cross_entropy(logits: Float64Array, targets: Float64Array, temperature: float) -> float:
    """Mean cross-entropy of softmax(logits / temperature) against the targets, in nats."""
    scaled = logits / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_probs = scaled - top - np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
    return float(-np.mean((targets * log_probs).sum(axis=1)))
