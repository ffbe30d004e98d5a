"""Correcting the temperature for what quantization did to the logits.

Axes: N texts, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_TEXTS = 30  # on fewer texts a fit says more about chance than about quantization
GRID = np.exp(np.linspace(np.log(0.05), np.log(20), 1201))  # half a percent from step to step


def corrected_temperature(temperature: float, reference: Floats, logits: Floats, targets: Floats) -> float:
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


def fitted(logits: Floats, targets: Floats) -> float:
    """The temperature of the grid under which the targets are most likely."""
    losses = [cross_entropy(logits, targets, float(temperature)) for temperature in GRID]
    return float(GRID[int(np.argmin(losses))])


def cross_entropy(logits: Floats, targets: Floats, temperature: float) -> float:
    """Mean cross-entropy of softmax(logits / temperature) against the targets, in nats."""
    scaled = logits / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_probs = scaled - top - np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
    return float(-np.mean((targets * log_probs).sum(axis=1)))
