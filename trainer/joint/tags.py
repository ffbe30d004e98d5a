"""Tags: a bias for each where it lowers the loss on texts left out, and the probability from which each is said to hold.

Axes: N texts, T tags.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from potstill.contract.questions.head import HOLDS
from potstill.trainer.calibration.vector_scaling import LARGEST_BIAS, MIN_TEXTS, N_FOLDS

MIN_THRESHOLD_TEXTS = 100  # held-out texts; on fewer the threshold of the best F1 is a matter of chance

_Floats = NDArray[np.float64]


def fit_tag_biases(logits: _Floats, targets: _Floats) -> list[float] | None:
    """A bias for each tag, [T]; None if they save less on texts left out than chance explains, or there are too few texts.

    Args:
        logits: float [N, T], after the temperature.
        targets: float [N, T], the probability that each tag holds.
    """
    n = len(logits)
    if n < MIN_TEXTS:
        return None
    fold_of = np.random.default_rng(0).permutation(n) % N_FOLDS
    gains = np.empty(n)
    for number in range(N_FOLDS):
        out, rest = fold_of == number, fold_of != number
        bias = _biases(logits[rest], targets[rest])
        gains[out] = (_losses(logits[out], targets[out]) - _losses(logits[out] + bias, targets[out])).mean(axis=1)
    if not gains.mean() > gains.std(ddof=1) / np.sqrt(n):
        return None
    return [float(value) for value in _biases(logits, targets)]


def fit_tag_thresholds(probs: _Floats, targets: _Floats) -> list[float] | None:
    """For each tag the probability from which on saying that it holds has the best expected F1, [T]; None: too few texts.

    A threshold moves away from `HOLDS` only where that is better on both halves of the texts, each judged by the other's choice.

    Args:
        probs: calibrated, float [N, T].
        targets: float [N, T], the probability that each tag holds; hits are counted by it.
    """
    if len(probs) < MIN_THRESHOLD_TEXTS:
        return None
    found = []
    for t in range(probs.shape[1]):
        mine, wanted = probs[:, t], targets[:, t]
        halves = [(slice(start, None, 2), slice(1 - start, None, 2)) for start in (0, 1)]
        better = all(
            expected_f1(mine[judge], wanted[judge], _best_threshold(mine[chosen], wanted[chosen]))
            > expected_f1(mine[judge], wanted[judge], HOLDS)
            for chosen, judge in halves
        )
        found.append(_best_threshold(mine, wanted) if better else HOLDS)
    return found


def expected_f1(probs: _Floats, targets: _Floats, threshold: float) -> float:
    """F1 of saying that the tag holds from the threshold on, where each text's truth is its soft label, 0 to 1.

    Args: probs, targets float [N].
    """
    held = probs >= threshold
    total = float(held.sum() + targets.sum())
    return float(2 * targets[held].sum() / total) if total else 1.0


def _best_threshold(probs: _Floats, targets: _Floats) -> float:
    """The threshold of the best expected F1, midway between two probabilities; the first of equals from above."""
    order = np.argsort(-probs, kind="stable")
    ranked, hits = probs[order], np.cumsum(targets[order])
    scores = 2 * hits / (np.arange(1, len(ranked) + 1) + max(float(targets.sum()), 1e-12))
    last = np.append(ranked[1:] != ranked[:-1], True)
    best = int(np.argmax(np.where(last, scores, -1.0)))
    below = float(ranked[best + 1]) if best + 1 < len(ranked) else 0.0
    return (float(ranked[best]) + below) / 2


def _biases(logits: _Floats, targets: _Floats) -> _Floats:
    """float64 [T]: the bias of each tag with the lowest loss."""
    found = []
    for t in range(logits.shape[1]):
        mine, wanted = logits[:, t], targets[:, t]
        result = minimize_scalar(
            lambda bias, mine=mine, wanted=wanted: float(_losses(mine + bias, wanted).mean()),
            bounds=(-LARGEST_BIAS, LARGEST_BIAS),
            method="bounded",
        )
        found.append(float(result.x))
    return np.array(found)


def _losses(logits: _Floats, targets: _Floats) -> _Floats:
    """Binary cross-entropy in nats, in the shape of the logits."""
    return np.asarray(np.logaddexp(0, logits) - targets * logits, dtype=np.float64)
