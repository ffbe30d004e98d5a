"""Metrics of each kind of question, with bootstrap intervals and paired differences.

| kind | metrics |
| --- | --- |
| choice | accuracy, macro_f1, log_loss, brier, ece |
| yesno | the same, and auc: area under the ROC curve of `yes` |
| degree | the same, and qwk: quadratic weighted kappa; mae: mean absolute error of the expected value |
| tags | micro_f1, macro_f1, map: mean average precision, subset_accuracy, brier, ece |

Axes: N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.head import HOLDS
from potstill.contract.questions.question import Kind
from potstill.contract.scores import metrics
from potstill.contract.scores.metrics import N_BINS, N_RESAMPLES
from potstill.contract.scores.record import Score, Scores

MAIN = {"choice": "macro_f1", "yesno": "macro_f1", "degree": "qwk", "tags": "macro_f1"}  # the metric that stands for the others
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "mae"})
Probs: TypeAlias = NDArray[np.float64]  # [N, C]
Gold: TypeAlias = NDArray[np.int64]  # [N]; of tags [N, C]
KindMetric = Callable[[Probs, Gold], float]


def kind_metrics(
    kind: Kind, *, values: Sequence[float] | None = None, thresholds: Sequence[float] | None = None
) -> dict[str, KindMetric]:
    """The metrics of a kind, by name; each takes probabilities float [N, C] and gold: int [N], the label; of tags 0 or 1 [N, C].

    Args:
        values: of a degree, what each level is worth, [C], rising; None: 1, 2, 3, ...
        thresholds: of tags, the probability from which each holds, [C]; None: 0.5.
    """
    if kind == "tags":
        least = None if thresholds is None else np.asarray(thresholds, dtype=np.float64)
        decided: dict[str, Callable[..., float]] = {
            "micro_f1": micro_f1,
            "macro_f1": tags_macro_f1,
            "subset_accuracy": subset_accuracy,
        }
        return {
            **{name: partial(metric, thresholds=least) for name, metric in decided.items()},
            "map": mean_average_precision,
            "brier": tags_brier,
            "ece": tags_ece,
        }
    found: dict[str, KindMetric] = dict(metrics.METRICS)
    if kind == "yesno":
        found["auc"] = auc
    if kind == "degree":
        worth = None if values is None else np.asarray(values, dtype=np.float64)
        found["qwk"] = quadratic_kappa
        found["mae"] = partial(mean_absolute_error, values=worth)
    return found


def scores_of(
    kind: Kind,
    probs: Probs,
    gold: Gold,
    *,
    values: Sequence[float] | None = None,
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
) -> Scores:
    """Every metric of a kind with its 95 % percentile bootstrap interval; arguments as for :func:`kind_metrics`.

    A metric that these texts do not give (the area under the curve, where all are `yes`) is left out.

    Raises:
        ValueError: if there is no text.
    """
    found = kind_metrics(kind, values=values, thresholds=thresholds)
    made = {name: _score(metric, probs, gold, seed) for name, metric in found.items()}
    return {name: score for name, score in made.items() if score is not None}


def difference_of(metric: KindMetric, first: Probs, second: Probs, gold: Gold, *, seed: int = 0) -> Score:
    """Score of ``first`` minus that of ``second`` on the same texts, with its paired 95 % percentile bootstrap interval.

    Args:
        metric: one of :func:`kind_metrics`.
        first, second, gold: as it takes them.
    Raises:
        ValueError: if there is no text.
    """
    draws = _draws(len(gold), seed)
    changes = np.array([metric(first[draw], gold[draw]) - metric(second[draw], gold[draw]) for draw in draws])
    low, high = _interval(changes)
    return Score(value=metric(first, gold) - metric(second, gold), low=low, high=high, n=len(gold))


def _score(metric: KindMetric, probs: Probs, gold: Gold, seed: int) -> Score | None:
    """A metric with its interval; None if these texts do not give it."""
    if metric in metrics.METRICS.values():  # all resamples in one product
        return metrics.score(metric, probs, gold, seed=seed)
    draws, value = _draws(len(gold), seed), metric(probs, gold)
    if np.isnan(value):
        return None
    low, high = _interval(np.array([metric(probs[draw], gold[draw]) for draw in draws]))
    return Score(value=value, low=low, high=high, n=len(gold))


def _interval(found: Probs) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the resamples that have a value, as one may lack a class; NaN if none has. Args: [R]."""
    known = found[~np.isnan(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _draws(n: int, seed: int) -> list[NDArray[np.int64]]:
    """The texts of each resample, int [N]."""
    if n == 0:
        raise ValueError("no text to score")
    rng = np.random.default_rng(seed)
    return [rng.integers(0, n, n) for _ in range(N_RESAMPLES)]


# Yes or no


def auc(probs: Probs, gold: Gold) -> float:
    """Probability that a text of the first label has a larger probability of it than one of the second, ties counting half.

    NaN if one of the two is absent. Args: probs float [N, 2]; gold int [N].
    Source: Hanley and McNeil 1982, Radiology 143(1).
    """
    yes = gold == 0
    n_yes, n_no = int(yes.sum()), int((~yes).sum())
    if not n_yes or not n_no:
        return float("nan")
    ranks = _mean_ranks(probs[:, 0])
    return float((ranks[yes].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank, float [N]."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], dtype=np.float64)


# Degree


def quadratic_kappa(probs: Probs, gold: Gold) -> float:
    """Quadratic weighted kappa of the most probable level, at most 1; 0 is chance, and what a single level everywhere gives.

    Args: probs float [N, C]; gold int [N].
    Source: Cohen 1968, Psychological Bulletin 70(4).
    """
    n_levels = probs.shape[1]
    table = np.zeros((n_levels, n_levels))
    np.add.at(table, (gold, probs.argmax(axis=1)), 1.0)
    apart = np.subtract.outer(np.arange(n_levels), np.arange(n_levels)) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(gold)
    chance = float((apart * expected).sum())
    return 1 - float((apart * table).sum()) / chance if chance else 0.0


def mean_absolute_error(probs: Probs, gold: Gold, values: NDArray[np.float64] | None = None) -> float:
    """Mean distance of the expected value from the gold level's, in units of the values.

    Args: probs float [N, C]; gold int [N]; values float [C], rising; None: 1, 2, 3, ...
    """
    worth = np.arange(1.0, probs.shape[1] + 1) if values is None else values
    return float(np.abs(probs @ worth - worth[gold]).mean())


# Tags


def _held(probs: Probs, thresholds: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """The tags that are said to hold, [N, C]."""
    return np.asarray(probs >= (HOLDS if thresholds is None else thresholds))


def micro_f1(probs: Probs, gold: Gold, thresholds: NDArray[np.float64] | None = None) -> float:
    """F1 over all pairs of text and tag, 0 to 1; 1 where no tag holds and none is said to. Args: float [N, C]; 0 or 1 [N, C]."""
    held = _held(probs, thresholds)
    claims = int(held.sum() + gold.sum())
    return float(2 * (held & (gold == 1)).sum() / claims) if claims else 1.0


def tags_macro_f1(probs: Probs, gold: Gold, thresholds: NDArray[np.float64] | None = None) -> float:
    """Mean over the tags of F1, 0 to 1; a tag neither said nor present counts 0. Args: float [N, C]; 0 or 1 [N, C]."""
    held = _held(probs, thresholds)
    hits, claims = (held & (gold == 1)).sum(axis=0), held.sum(axis=0) + gold.sum(axis=0)
    return float(np.mean(2 * hits / np.maximum(claims, 1)))


def subset_accuracy(probs: Probs, gold: Gold, thresholds: NDArray[np.float64] | None = None) -> float:
    """Share of texts of which every tag is right, 0 to 1. Args: float [N, C]; 0 or 1 [N, C]."""
    return float((_held(probs, thresholds) == (gold == 1)).all(axis=1).mean())


def mean_average_precision(probs: Probs, gold: Gold) -> float:
    """Mean over the tags that hold for some text of average precision, 0 to 1; NaN if none does.

    Equal probabilities count as one threshold, as in scikit-learn. Args: float [N, C]; 0 or 1 [N, C].
    """
    found = [average_precision(probs[:, c], gold[:, c]) for c in range(probs.shape[1]) if gold[:, c].any()]
    return float(np.mean(found)) if found else float("nan")


def average_precision(values: NDArray[np.float64], gold: Gold) -> float:
    """Sum over thresholds of precision times the gain in recall, 0 to 1. Args: float [N]; 0 or 1 [N], at least one 1."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(gold[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each group of equal values
    gained = np.diff(np.concatenate([[0], hits[last]])) / hits[-1]
    return float((hits[last] / (last + 1) * gained).sum())


def tags_brier(probs: Probs, gold: Gold) -> float:
    """Mean squared error over all pairs of text and tag, 0 to 1. Args: float [N, C]; 0 or 1 [N, C]."""
    return float(np.mean((probs - gold) ** 2))


def tags_ece(probs: Probs, gold: Gold) -> float:
    """Expected calibration error over all pairs of text and tag, 10 bins of equal width, 0 to 1. Args: float [N, C]; 0 or 1."""
    flat, truth = probs.ravel(), gold.ravel()
    bins = np.minimum((flat * N_BINS).astype(int), N_BINS - 1)
    gaps = np.bincount(bins, weights=truth - flat, minlength=N_BINS)
    return float(np.abs(gaps).sum() / len(flat))
