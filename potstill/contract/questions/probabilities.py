"""From the logits of a student to the calibrated probabilities of each question, for whole arrays of texts.

A server reads one text at a time without arrays; both give the same numbers. Axes: N texts, C labels of a question, T tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.head import HOLDS, Head, ranges

NEVER = 2.0  # a threshold that no probability reaches


def head_probs(head: Head, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64 [N, C]: calibrated probabilities of one question; rows sum to 1, but of tags each is for itself.

    Args:
        logits: float [N, C], the outputs of this head.
    """
    scaled = np.asarray(logits, dtype=np.float64) / head.temperature
    if head.bias is not None:
        scaled = scaled + np.array(head.bias)
    if not head.is_softmax:
        small = np.exp(-np.abs(scaled))  # stays finite
        return np.asarray(np.where(scaled >= 0, 1.0, small) / (1 + small), dtype=np.float64)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def joint_probs(heads: Sequence[Head], logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The probabilities of all questions, side by side as the logits are. Args: logits float [N, outputs]."""
    return np.concatenate([head_probs(head, logits[:, own]) for head, own in zip(heads, ranges(heads), strict=True)], axis=1)


def tag_thresholds(head: Head) -> list[float] | None:
    """The probability from which each tag holds, [T]; `NEVER` where it never does; None for a head of another kind."""
    if head.is_softmax:
        return None
    stated = head.thresholds or {}
    return [NEVER if (least := stated.get(name, HOLDS)) is None else least for name in head.labels]


def decided(head: Head, probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """What is answered: the label, int64 [N, 1], or of tags whether each holds, 0 or 1 [N, T]. Args: probs float [N, C]."""
    least = tag_thresholds(head)
    if least is None:
        return np.asarray(probs.argmax(axis=1)[:, None], dtype=np.int64)
    return np.asarray(probs >= np.array(least), dtype=np.int64)
