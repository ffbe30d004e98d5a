"""Choose a cascade's confidence threshold: where the fast graph's top probability reaches it, the fast graph's answer stands.

The threshold is the lowest one whose loss against the slow graph stays within a limit. Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import macro_f1

Measure = Literal["macro_f1", "agreement"]
MAX_CANDIDATES = 1000  # thresholds to try; more would differ by less than one text in a thousand


@dataclass(frozen=True)
class CascadeProbs:
    """Both graphs' probabilities for the same texts, and their gold labels."""

    fast: NDArray[np.float64]  # [N, C]
    slow: NDArray[np.float64]  # [N, C]
    gold: NDArray[np.int64] | None  # [N]; None: the slow graph's label counts as right

    def half(self, which: int) -> CascadeProbs:
        """Every other text, starting at the first (0) or the second (1)."""
        pick = slice(which, None, 2)
        return CascadeProbs(self.fast[pick], self.slow[pick], None if self.gold is None else self.gold[pick])

    @property
    def measure(self) -> Measure:
        """The quantity whose loss is limited: macro-F1 if there are gold labels, else agreement with the slow graph."""
        return "agreement" if self.gold is None else "macro_f1"


@dataclass(frozen=True)
class CascadeThreshold:
    """A confidence threshold, and its loss on the texts that it was chosen on."""

    sure: float  # the fast graph's answer stands if its top probability is at least this; above 1: never
    loss: float  # of the measure; below 0 is a gain
    share: float  # of the texts that the fast graph answers, 0 to 1


def choose_threshold(answered: CascadeProbs, max_loss: float) -> CascadeThreshold:
    """Choose the threshold with which the fast graph answers most texts, while neither it nor any higher one exceeds the limit.

    Requiring this of higher thresholds too excludes a lucky dip at low confidence, where losses happen to cancel.

    Args:
        answered: at least one text.
        max_loss: largest accepted loss of the measure, from 0 to 1.
    """
    confidence = answered.fast.max(axis=1)
    steps = np.unique(confidence)[::-1]  # highest threshold first
    if len(steps) > MAX_CANDIDATES:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_CANDIDATES).round().astype(int)]
    chosen = CascadeThreshold(2.0, 0.0, 0.0)
    for at, step in enumerate(steps):
        if (lost := cascade_loss(answered, step)) > max_loss:
            break
        below = confidence[confidence < step]  # put it between two texts, so that rounding on another CPU moves neither across
        sure = step if at + 1 == len(steps) or not len(below) else (step + below.max()) / 2
        chosen = CascadeThreshold(float(sure), lost, float(np.mean(confidence >= step)))
    return chosen


def mixed(answered: CascadeProbs, sure: float) -> NDArray[np.float64]:
    """The cascade's probabilities, float64 [N, C]: the fast graph's where its top probability is at least `sure` (0 to 1)."""
    return np.where(answered.fast.max(axis=1, keepdims=True) >= sure, answered.fast, answered.slow)


def cascade_loss(answered: CascadeProbs, sure: float) -> float:
    """Loss of the cascade against the slow graph alone, with the threshold `sure` (0 to 1); below 0 is a gain."""
    probs = mixed(answered, sure)
    if answered.gold is None:
        return float(np.mean(probs.argmax(axis=1) != answered.slow.argmax(axis=1)))
    return macro_f1(answered.slow, answered.gold) - macro_f1(probs, answered.gold)


def held_out_loss(answered: CascadeProbs, max_loss: float) -> float:
    """Mean loss over two halves of the texts, each with the threshold chosen on the other half for `max_loss` (0 to 1)."""
    if len(answered.fast) < 2:
        return cascade_loss(answered, choose_threshold(answered, max_loss).sure)
    thresholds = [choose_threshold(answered.half(1 - which), max_loss).sure for which in (0, 1)]
    return float(np.mean([cascade_loss(answered.half(which), sure) for which, sure in enumerate(thresholds)]))
