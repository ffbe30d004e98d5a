"""Fit the checkpoint's temperature, thresholds and label sets to the outputs of the form that is exported.

Thresholds and label sets were measured on the checkpoint's probabilities, with texts that may be gone. So each is moved by as
much as the probability of the same rank moved: as many validation texts pass it as before. Axes: N texts, C classes.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.decision import Conformal

MIN_PASSING = 10  # texts at or above a threshold; with fewer, the lowest of them says too little to move it
MIN_TEXTS = 30  # on fewer texts a temperature says more about chance than about quantization
GRID = np.exp(np.linspace(np.log(0.05), np.log(20), 1201))  # temperatures, half a percent apart


# Thresholds and label sets


def carry_thresholds(
    thresholds: dict[str, float | None] | None, labels: list[str], reference: NDArray[np.float64], probs: NDArray[np.float64]
) -> dict[str, float | None] | None:
    """Move thresholds so that as many validation texts are answered with each label as before.

    A threshold that fewer than `MIN_PASSING` texts pass is not moved. Equal probabilities move nothing.

    Args:
        thresholds: the checkpoint's, 0 to 1 by label; None for a label that is never answered.
        labels: in output order.
        reference: the checkpoint's probabilities [N, C].
        probs: the probabilities of the exported form [N, C].
    """
    if thresholds is None:
        return None
    carried = {}
    for name, least in thresholds.items():
        c = labels.index(name)
        before, after = (values[values.argmax(axis=1) == c, c] for values in (reference, probs))
        carried[name] = None if least is None else carry_cutoff(least, before, after)
    return carried


def carry_label_sets(conformal: Conformal | None, reference: NDArray[np.float64], probs: NDArray[np.float64]) -> Conformal | None:
    """Move the conformal quantile so that the label sets of all validation texts hold as many labels as before.

    Args:
        conformal: the checkpoint's; None: it has none.
        reference: the checkpoint's probabilities [N, C].
        probs: the probabilities of the exported form [N, C].
    """
    if conformal is None:
        return None
    least = carry_cutoff(1 - conformal.quantile, reference.ravel(), probs.ravel())
    return msgspec.structs.replace(conformal, quantile=1 - least)


def carry_cutoff(least: float, before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Move a cutoff so that as many of `after` are at or above it as of `before` were.

    Args:
        least: the cutoff, a probability, 0 to 1.
        before: probabilities [n] that it was made for.
        after: probabilities [m] that it is moved to.
    """
    n_passing = int((before >= least).sum())
    if n_passing < MIN_PASSING or len(after) < MIN_PASSING:
        return least
    lowest = np.sort(before)[-n_passing]
    now = np.sort(after)[-min(n_passing, len(after))]
    return float(min(1.0, max(0.0, least + float(now - lowest))))


# Temperature


def correct_temperature(
    temperature: float, reference: NDArray[np.float64], logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> float:
    """Scale the checkpoint's temperature by the ratio of the best temperatures for the new and for the float logits.

    The trainer may have fitted its temperature to other texts or to another aim. A ratio keeps that, and equal logits change
    nothing. The fit is on a fixed grid rather than by an optimizer, so that a second export writes the same bytes.

    Args:
        temperature: the checkpoint's, above 0.
        reference: logits of the float form [N, C].
        logits: logits of the exported form [N, C].
        targets: soft labels [N, C]; rows sum to 1.
    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2.
    """
    if len(targets) < MIN_TEXTS:
        return temperature
    return temperature * best_on_grid(logits, targets) / best_on_grid(reference, targets)


def best_on_grid(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """The temperature of the grid with the least cross-entropy; logits and targets are [N, C]."""
    losses = [cross_entropy(logits, targets, float(temperature)) for temperature in GRID]
    return float(GRID[int(np.argmin(losses))])


def cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64], temperature: float) -> float:
    """Mean cross-entropy of softmax(logits / temperature) against the targets [N, C], in nats; temperature above 0."""
    scaled = logits / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_probs = scaled - top - np.log(np.exp(scaled - top).sum(axis=1, keepdims=True))
    return float(-np.mean((targets * log_probs).sum(axis=1)))
