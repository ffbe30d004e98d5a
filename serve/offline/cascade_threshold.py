"""Choose a cascade's confidence threshold: where the fast graph's top probability reaches it, the fast graph's answer stands.

The threshold is the lowest one whose loss against the slow graph stays within a limit: with a confidence on texts to come
(:func:`certified_threshold`), or on the texts at hand (:func:`choose_threshold`). Axes: N texts, C labels.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.bounds import upper_bound
from potstill.contract.scores.metrics import macro_f1
from potstill.contract.scores.switches import SWITCHES
from potstill.serve.offline.net_loss import probability_of_less

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


@dataclass(frozen=True)
class CascadeThreshold:
    """A confidence threshold, and its loss on the texts that it was chosen on."""

    sure: float  # the fast graph's answer stands if its top probability is at least this; above 1: never
    loss: float  # on these texts; below 0 is a gain
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


def certified_threshold(answered: CascadeProbs, max_loss: float, confidence: float) -> CascadeThreshold:
    """Choose the threshold with which the fast graph answers most texts, and the loss on texts to come is within the limit.

    Without gold labels the loss is the share of texts that the cascade answers otherwise than the slow graph, and its bound is
    binomial: that loss only rises as the threshold falls, so all thresholds are judged at once. With gold labels it is the accuracy
    lost. That can fall again, so thresholds are tested from the strictest on until one fails.

    Args:
        answered: at least one text.
        max_loss: largest loss, from 0 to 1.
        confidence: that it is no larger, at least 0.5 and below 1.
    Source: Bates et al. 2021, Journal of the ACM 68(6); Angelopoulos et al. 2021, arXiv:2110.01052.
    """
    tops = answered.fast.max(axis=1)
    if answered.gold is None:
        sure = _by_disagreement(tops, answered.fast.argmax(axis=1) != answered.slow.argmax(axis=1), max_loss, confidence)
    else:
        right = [probs.argmax(axis=1) == answered.gold for probs in (answered.fast, answered.slow)]
        sure = _by_lost_accuracy(tops, right[0].astype(int) - right[1].astype(int), max_loss, 1 - confidence)
    if sure > 1:
        return CascadeThreshold(2.0, 0.0, 0.0)
    return CascadeThreshold(sure, stated_loss(answered, sure), float(np.mean(tops >= sure)))


def _by_disagreement(tops: NDArray[np.float64], differs: NDArray[np.bool_], max_loss: float, confidence: float) -> float:
    """The lowest threshold with so few disagreements at or above it that their share is within the limit; above 1 if none is."""
    n, wrong = len(tops), np.sort(tops[differs])[::-1]
    allowed = bisect_right(range(n + 1), max_loss, key=lambda k: upper_bound(k, n, confidence)) - 1
    if allowed < 0:
        return 2.0
    if allowed >= len(wrong):
        return 0.0
    above = tops[tops > wrong[allowed]]
    return float(above.min() + wrong[allowed]) / 2 if len(above) else 2.0


def _by_lost_accuracy(tops: NDArray[np.float64], gain: NDArray[np.int_], max_loss: float, error: float) -> float:
    """The lowest threshold before the first that fails; above 1 if the strictest does. Args: gain 1, 0 or -1 for each text."""
    n, sure, passed = len(tops), 2.0, -1  # harms of the last test: further gains alone cannot make one fail
    order = np.argsort(-tops, kind="stable")
    counts = np.searchsorted(-tops[order], -SWITCHES, side="right")
    harms, gains = (np.concatenate([[0], np.cumsum(gain[order] == sign)])[counts] for sign in (-1, 1))
    for switch, n_harms, n_gains in zip(SWITCHES.tolist(), harms.tolist(), gains.tolist(), strict=True):
        if n_harms > passed and probability_of_less(n_harms, n_gains, n, max_loss) > error:
            break
        sure, passed = switch, n_harms
    return sure


def stated_loss(answered: CascadeProbs, sure: float) -> float:
    """The loss that a bound is about, on these texts: accuracy lost against gold labels, or without them the share answered
    otherwise than by the slow graph. Args: sure, 0 to 1."""
    answers, slow = mixed(answered, sure).argmax(axis=1), answered.slow.argmax(axis=1)
    if answered.gold is None:
        return float(np.mean(answers != slow))
    return float(np.mean(slow == answered.gold) - np.mean(answers == answered.gold))


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
