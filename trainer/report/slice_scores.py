"""What a student's answers are worth on a slice, and against the rest of the texts.

Axes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.trainer.report.answers import Judged
from potstill.trainer.report.slices import Slice

MIN_TEXTS = 20  # an interval over fewer texts is wider than any difference worth knowing


@dataclass(frozen=True)
class SliceScores:
    """A slice's scores; `small` ones are too small to say anything."""

    kind: str
    name: str
    n: int
    accuracy: Score
    macro_f1: Score  # over the labels that people gave in the slice
    difference: Score  # accuracy minus that of all other texts

    @property
    def small(self) -> bool:
        """Whether the slice, or what is left outside it, holds too few texts."""
        return min(self.n, self.difference.n - self.n) < MIN_TEXTS

    @property
    def stands_out(self) -> str:
        """`worse` or `better` than the rest where the interval leaves 0 out; else empty."""
        if self.small:
            return ""
        return "worse" if self.difference.high < 0 else "better" if self.difference.low > 0 else ""


def slice_scores(judged: Judged, part: Slice) -> SliceScores:
    """The slice's scores with 95 % percentile bootstrap intervals. Args: part, with a text inside and one outside."""
    inside = part.members
    probs, gold = judged.probs[inside], judged.gold[inside]
    return SliceScores(
        kind=part.kind,
        name=part.name,
        n=int(inside.sum()),
        accuracy=metrics.score(metrics.accuracy, probs, gold),
        macro_f1=metrics.score(_macro_f1_over(np.unique(gold)), probs, gold),
        difference=accuracy_difference(judged.right[inside], judged.right[~inside]),
    )


def accuracy_difference(inside: NDArray[np.bool_], outside: NDArray[np.bool_], *, seed: int = 0) -> Score:
    """How much larger the share of right answers is inside than outside, with its 95 % percentile bootstrap interval.

    Both groups are drawn anew, each by itself: they are different texts. The number of right answers among texts drawn with
    replacement is binomial, so it is drawn as such.

    Args:
        inside, outside: whether each text was answered right; at least one text each.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.binomial(len(group), group.mean(), metrics.N_RESAMPLES) / len(group) for group in (inside, outside)]
    low, high = np.percentile(draws[0] - draws[1], [2.5, 97.5])
    return Score(value=float(inside.mean() - outside.mean()), low=float(low), high=float(high), n=len(inside) + len(outside))


def _macro_f1_over(classes: NDArray[np.int64]) -> metrics.Metric:
    """Macro-F1 over some classes: one that a slice does not hold would count 0 in it, however well the student does."""

    def macro_f1(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """Args: probs float [N, C]; gold int [N]."""
        n_classes = probs.shape[1]
        predicted = probs.argmax(axis=1)
        hits = np.bincount(gold[predicted == gold], minlength=n_classes)
        claims = np.bincount(predicted, minlength=n_classes) + np.bincount(gold, minlength=n_classes)
        return float(np.mean((2 * hits / np.maximum(claims, 1))[classes]))

    return macro_f1
