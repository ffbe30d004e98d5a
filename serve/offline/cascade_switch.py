"""When the fast graph of a cascade may answer alone: the switch on its own probability, chosen for a loss that is allowed.

Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import macro_f1

Measure = Literal["macro_f1", "agreement"]
MAX_SWITCHES = 1000  # tried; more of them differ by less than a text in a thousand


@dataclass(frozen=True)
class Answered:
    """What both graphs say of the same texts, and what is right."""

    fast: NDArray[np.float64]  # [N, C]
    slow: NDArray[np.float64]  # [N, C]
    gold: NDArray[np.int64] | None  # [N]; None: what the slow graph says is right

    def half(self, which: int) -> Answered:
        """Every other text, from the first (0) or the second (1) on."""
        pick = slice(which, None, 2)
        return Answered(self.fast[pick], self.slow[pick], None if self.gold is None else self.gold[pick])

    @property
    def measure(self) -> Measure:
        """What the loss is a loss of."""
        return "agreement" if self.gold is None else "macro_f1"


@dataclass(frozen=True)
class Switch:
    """A switch and what it costs on the texts that it was chosen on."""

    sure: float  # the fast graph's answer stands where its label has at least this probability; above 1: nowhere
    loss: float  # of the measure; below 0 is a gain
    share: float  # of the texts that the fast graph answers


def choose(answered: Answered, max_loss: float) -> Switch:
    """The switch that lets the fast graph answer most, such that neither it nor any stricter one loses more than allowed.

    That no stricter one may lose more keeps a lucky dip far down, where the losses happen to cancel, from being chosen.

    Args:
        answered: at least one text.
        max_loss: macro-F1 or share of texts, from 0 to 1.
    """
    confidence = answered.fast.max(axis=1)
    steps = np.unique(confidence)[::-1]  # strictest first
    if len(steps) > MAX_SWITCHES:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_SWITCHES).round().astype(int)]
    chosen = Switch(2.0, 0.0, 0.0)
    for at, step in enumerate(steps):
        if (lost := loss(answered, step)) > max_loss:
            break
        below = confidence[confidence < step]  # between two texts, so that no rounding on another CPU moves one of them across
        sure = step if at + 1 == len(steps) or not len(below) else (step + below.max()) / 2
        chosen = Switch(float(sure), lost, float(np.mean(confidence >= step)))
    return chosen


def loss(answered: Answered, sure: float) -> float:
    """What the cascade loses against the slow graph with this switch; below 0 if it gains."""
    mixed = np.where(answered.fast.max(axis=1, keepdims=True) >= sure, answered.fast, answered.slow)
    if answered.gold is None:
        return float(np.mean(mixed.argmax(axis=1) != answered.slow.argmax(axis=1)))
    return macro_f1(answered.slow, answered.gold) - macro_f1(mixed, answered.gold)


def held_out_loss(answered: Answered, max_loss: float) -> float:
    """The mean loss over two halves of the texts, each with the switch that was chosen on the other one."""
    if len(answered.fast) < 2:
        return loss(answered, choose(answered, max_loss).sure)
    return float(np.mean([loss(answered.half(which), choose(answered.half(1 - which), max_loss).sure) for which in (0, 1)]))
