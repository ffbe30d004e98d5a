"""One way to label, what it made of the gold texts, and which of several ways is chosen.

Axes: N gold texts, C labels, R trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.metrics import N_RESAMPLES, macro_f1
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.paths import TeacherPath, token_cost
from potstill.labeler.store.label_store import Run

AS_CHEAP = 1.1  # times the lowest cost


@dataclass(frozen=True)
class Trial:
    """A row of the comparison."""

    group: str  # what is compared where it was tried
    name: str
    config: LabelConfig
    derive: DeriveConfig
    run: Run  # that the paths are of, or would be
    paths: Sequence[TeacherPath]
    probs: NDArray[np.float64]  # [N, C], rows sum to 1; NaN for a text that does not fit into the teacher's context
    seconds: float | None  # of a text, estimated from its run; None where that was not timed

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each text has a distribution, bool [N]."""
        return ~np.isnan(self.probs[:, 0])

    @property
    def n_paths(self) -> float:
        """Paths of a text, on average."""
        return len(self.paths) / int(self.answered.sum())

    @property
    def cost(self) -> float:
        """Token cost of a text, on average."""
        return token_cost(self.paths) / int(self.answered.sum())


@dataclass(frozen=True)
class Choice:
    """What the choosing half says."""

    winner: Trial
    best: Trial  # highest macro-F1, whatever it costs
    scores: list[float]  # [R], macro-F1 of every trial


def choose(trials: Sequence[Trial], gold: NDArray[np.int64], rows: NDArray[np.bool_]) -> Choice:
    """The cheapest of the trials that do as well as the best one; of equally cheap ones the better.

    As well means: behind in macro-F1 by no more than one standard error of the difference, measured on the same resampled texts.
    This is the rule of one standard error (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3) for scores that
    go together.

    Args:
        trials: at least one.
        gold: int [N].
        rows: bool [N], the texts that choose, at least one; every trial has answered them.
    """
    all_probs, wanted = [trial.probs[rows] for trial in trials], gold[rows]
    scores = [macro_f1(probs, wanted) for probs in all_probs]
    best = int(np.argmax(scores))
    resampled = _resampled(all_probs, wanted)  # [R, resamples]
    errors = (resampled[best] - resampled).std(axis=1)  # [R]
    level = [i for i, score in enumerate(scores) if scores[best] - score <= errors[i]]
    dearest = AS_CHEAP * min(trials[i].cost for i in level)
    winner = max((i for i in level if trials[i].cost <= dearest), key=lambda i: scores[i])  # of equals the first
    return Choice(trials[winner], trials[best], scores)


def _resampled(all_probs: Sequence[NDArray[np.float64]], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro-F1 of every trial on the same bootstrap samples of the texts, float [R, resamples]."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(gold), len(gold)) for _ in range(N_RESAMPLES)]
    return np.array([[macro_f1(probs[draw], gold[draw]) for draw in draws] for probs in all_probs])
