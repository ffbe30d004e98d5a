"""Several systems on the same gold texts: the scores of each, and each against the student.

Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score, Scores
from potstill.contract.texts import Text
from potstill.trainer.evaluation.curves import confusion
from potstill.trainer.evaluation.gold import Gold


@dataclass(frozen=True)
class McNemar:
    """The texts that one of two classifiers got right and the other wrong, and how likely chance splits them so unevenly."""

    n_first: int  # only the first was right
    n_second: int  # only the second was right
    p: float  # two-sided and exact, 0 to 1; 1 where they never differ


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """The exact test: under the null hypothesis each discordant text is a fair coin.

    Args: first_right, second_right bool [N], of the same texts in the same order.
    Source: McNemar 1947, Psychometrika 12(2), in the exact binomial form.
    """
    n_first = int(np.sum(first_right & ~second_right))
    n_second = int(np.sum(second_right & ~first_right))
    n = n_first + n_second
    return McNemar(n_first, n_second, float(binomtest(n_first, n, 0.5).pvalue) if n else 1.0)


@dataclass(frozen=True)
class System:
    """Something that answers, and what it answered."""

    name: str
    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    note: str = ""  # what its answers rest on, for a person


@dataclass(frozen=True)
class Against:
    """How much better the student is than another system on the same texts; below 0, worse."""

    accuracy: Score
    macro_f1: Score
    mcnemar: McNemar  # first: the student


@dataclass(frozen=True)
class Comparison:
    """Everything that was measured."""

    labels: list[str]  # [C]
    texts: list[Text]  # [N]
    systems: list[System]  # the student first
    scores: dict[str, Scores]  # by system
    against: dict[str, Against]  # by system other than the student
    confusion: NDArray[np.int64]  # [C, C]: texts by gold label (row) and the student's answer (column)
    notes: tuple[str, ...]


def compare(systems: list[System], gold: Gold) -> Comparison:
    """Score every system, and test the first, the student, against each of the others.

    Args:
        systems: at least one, each with a name of its own.
        gold: the texts that they answered.
    """
    student, *others = systems
    classes = gold.classes
    return Comparison(
        labels=gold.labels,
        texts=gold.texts,
        systems=systems,
        scores={system.name: metrics.scores(system.probs, classes) for system in systems},
        against={other.name: _against(student, other, classes) for other in others},
        confusion=confusion(classes, student.probs.argmax(axis=1), len(gold.labels)),
        notes=gold.notes,
    )


def _against(student: System, other: System, gold: NDArray[np.int64]) -> Against:
    """The student next to one other system. Args: gold int [N]."""
    first, second = student.probs, other.probs
    return Against(
        accuracy=metrics.difference(metrics.accuracy, first, second, gold),
        macro_f1=metrics.difference(metrics.macro_f1, first, second, gold),
        mcnemar=mcnemar(first.argmax(axis=1) == gold, second.argmax(axis=1) == gold),
    )
