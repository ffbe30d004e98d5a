"""Metrics of predicted distributions against gold labels, with bootstrap intervals.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.record import Score, Scores

N_RESAMPLES = 1000
N_BINS = 10
MIN_PROB = 1e-12  # keeps the log loss finite at a probability of 0

Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]


def accuracy(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Share of texts whose most probable class is the gold one, 0 to 1. Args: probs float [N, C]; gold int [N]."""
    return float(np.mean(probs.argmax(axis=1) == gold))


def macro_f1(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Unweighted mean over all C classes of F1, 0 to 1; a class neither predicted nor present counts 0.

    Args: probs float [N, C]; gold int [N], each below C.
    """
    n_classes = probs.shape[1]  # not scikit-learn: its input checks would cost seconds over a bootstrap
    predicted = probs.argmax(axis=1)
    hits = np.bincount(gold[predicted == gold], minlength=n_classes)  # [C]
    claims = np.bincount(predicted, minlength=n_classes) + np.bincount(gold, minlength=n_classes)  # [C]
    return float(np.mean(2 * hits / np.maximum(claims, 1)))


def log_loss(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the gold class, in nats. Args: probs float [N, C]; gold int [N]."""
    return float(-np.mean(np.log(np.maximum(probs[np.arange(len(gold)), gold], MIN_PROB))))


def ece(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Expected calibration error of the most probable class, over 10 bins of equal width, 0 to 1.

    Args: probs float [N, C]; gold int [N].
    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, equation 3.
    """
    confidence = probs.max(axis=1)
    right = probs.argmax(axis=1) == gold
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(float(right[bins == b].sum() - confidence[bins == b].sum())) for b in range(N_BINS)]
    return sum(gaps) / len(gold)


def brier(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
    """Mean over texts of the squared error summed over all classes, 0 to 2. Args: probs float [N, C]; gold int [N].

    Source: Brier 1950, Monthly Weather Review 78(1), equation 2.
    """
    truth = probs[np.arange(len(gold)), gold]  # sum over c of (p_c - y_c)^2 is sum p_c^2 - 2 p_y + 1
    return float(np.mean((probs**2).sum(axis=1) - 2 * truth + 1))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1, "log_loss": log_loss, "brier": brier, "ece": ece}


# Every metric above is a function of sums over the texts. A resample counts each text so often as it was drawn, so the sums of all
# resamples are one matrix product: a hundred times as fast as to score a thousand samples of texts one by one.
_Totals = Callable[[NDArray[np.float64], int], NDArray[np.float64]]  # (sums [R, K], number of texts) to values [R]
_Parts = tuple[NDArray[np.float64], _Totals]  # (each text's part of the sums, float [N, K]; what makes a value of the sums)
_AT_ONCE = 2**24  # numbers of the matrix of counts that are held at once


def _of_resamples(parts: NDArray[np.float64], value: _Totals, draws: Iterator[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The metric's value on each resample, float [R]. Args: float [N, K]; texts of each resample, int [N]."""
    n, sums = len(parts), []
    while chunk := [np.bincount(draw, minlength=n) for draw in islice(draws, max(1, _AT_ONCE // n))]:
        sums.append(np.stack(chunk).astype(np.float64) @ parts)
    return value(np.concatenate(sums), n)


def _mean(parts: NDArray[np.float64]) -> _Parts:
    """A metric that is the mean of something over the texts. Args: float [N]."""
    return parts[:, None], lambda sums, n: sums[:, 0] / n


def _accuracy_sums(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> _Parts:
    """Whether each text is right."""
    return _mean((probs.argmax(axis=1) == gold).astype(np.float64))


def _log_loss_sums(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> _Parts:
    """Each text's log loss."""
    return _mean(-np.log(np.maximum(probs[np.arange(len(gold)), gold], MIN_PROB)))


def _brier_sums(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> _Parts:
    """Each text's squared error."""
    return _mean((probs**2).sum(axis=1) - 2 * probs[np.arange(len(gold)), gold] + 1)


def _f1_sums(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> _Parts:
    """By class: hits, and predictions and gold labels together."""
    n_classes = probs.shape[1]
    predicted, truth = np.eye(n_classes)[probs.argmax(axis=1)], np.eye(n_classes)[gold]
    parts = np.concatenate([predicted * truth, predicted + truth], axis=1)
    return parts, lambda sums, _: (2 * sums[:, :n_classes] / np.maximum(sums[:, n_classes:], 1)).mean(axis=1)


def _ece_sums(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> _Parts:
    """By bin: how far being right and confidence differ."""
    confidence = probs.max(axis=1)
    bins = np.eye(N_BINS)[np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)]
    gaps = (probs.argmax(axis=1) == gold) - confidence
    return bins * gaps[:, None], lambda sums, n: np.abs(sums).sum(axis=1) / n


_SUMS: dict[Metric, Callable[[NDArray[np.float64], NDArray[np.int64]], _Parts]] = {
    accuracy: _accuracy_sums,
    macro_f1: _f1_sums,
    log_loss: _log_loss_sums,
    brier: _brier_sums,
    ece: _ece_sums,
}


def score(metric: Metric, probs: NDArray[np.float64], gold: NDArray[np.int64], *, seed: int = 0) -> Score:
    """The metric and its 95 % percentile bootstrap interval over texts.

    Args:
        probs: float [N, C], rows sum to 1.
        gold: int [N], class of each text.
    Raises:
        ValueError: if there is no text.
    Source: Efron 1979, The Annals of Statistics 7(1), percentile method.
    """
    n = len(gold)
    if n == 0:
        raise ValueError("no text to score")
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, n, n) for _ in range(N_RESAMPLES))
    if metric in _SUMS:
        values = _of_resamples(*_SUMS[metric](probs, gold), draws)
    else:
        values = np.array([metric(probs[draw], gold[draw]) for draw in draws])
    low, high = np.percentile(values, [2.5, 97.5])
    return Score(value=metric(probs, gold), low=float(low), high=float(high), n=n)


def difference(
    metric: Metric, first: NDArray[np.float64], second: NDArray[np.float64], gold: NDArray[np.int64], *, seed: int = 0
) -> Score:
    """Score of ``first`` minus that of ``second`` on the same texts, with its paired 95 % percentile bootstrap interval.

    Args:
        metric: one of `METRICS`.
        first, second: float [N, C], rows sum to 1.
        gold: int [N], class of each text.
    Raises:
        ValueError: if there is no text.
    Source: as :func:`score`; every resample takes the same texts for both.
    """
    n = len(gold)
    if n == 0:
        raise ValueError("no text to score")
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, n, n) for _ in range(N_RESAMPLES))
    values = np.array([metric(first[draw], gold[draw]) - metric(second[draw], gold[draw]) for draw in draws])
    low, high = np.percentile(values, [2.5, 97.5])
    return Score(value=metric(first, gold) - metric(second, gold), low=float(low), high=float(high), n=n)


def scores(probs: NDArray[np.float64], gold: NDArray[np.int64], *, seed: int = 0) -> Scores:
    """Every metric with its interval. Args: probs float [N, C]; gold int [N]. Raises ValueError if there is no text."""
    return {name: score(metric, probs, gold, seed=seed) for name, metric in METRICS.items()}
