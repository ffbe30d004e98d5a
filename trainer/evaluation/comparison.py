"""Compare systems on the same gold texts: the scores of each, and the student's difference to each.

Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from potstill.contract.interchange.notebook import Shown, text_table
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score, Scores
from potstill.contract.texts import Text
from potstill.trainer.evaluation.curves import confusion
from potstill.trainer.evaluation.gold import Gold

METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "log_loss": "log-loss", "ece": "ECE"}  # as tables name them


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two classifiers on the texts that only one of them got right."""

    n_first: int  # only the first was right
    n_second: int  # only the second was right
    p: float  # two-sided and exact, 0 to 1; 1 where they never differ


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test: under the null hypothesis, each text that only one got right is a fair coin toss.

    Args: first_right, second_right bool [N], of the same texts in the same order.
    Source: McNemar 1947, Psychometrika 12(2), in the exact binomial form.
    """
    n_first = int(np.sum(first_right & ~second_right))
    n_second = int(np.sum(second_right & ~first_right))
    n = n_first + n_second
    return McNemar(n_first, n_second, float(binomtest(n_first, n, 0.5).pvalue) if n else 1.0)


@dataclass(frozen=True)
class System:
    """A system with its answers."""

    name: str
    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    note: str = ""  # what a reader of its scores should know


@dataclass(frozen=True)
class PairedDifference:
    """The student's scores minus another system's on the same texts; negative where the student is worse."""

    accuracy: Score
    macro_f1: Score
    mcnemar: McNemar  # first: the student


@dataclass(frozen=True, repr=False)
class SystemComparison(Shown):
    """Scores of all systems, and the student's difference to each of the others."""

    labels: list[str]  # [C]
    texts: list[Text]  # [N]
    systems: list[System]  # the student first
    scores: dict[str, Scores]  # by system
    against: dict[str, PairedDifference]  # by system other than the student
    confusion: NDArray[np.int64]  # [C, C]: texts by gold label (row) and the student's answer (column)
    notes: tuple[str, ...]

    def cells(self) -> list[list[str]]:
        """A row for each system: texts, and each score with its interval."""
        n = str(len(self.texts))
        rows = [[name, n, *(values[metric].as_text() for metric in METRICS)] for name, values in self.scores.items()]
        return [["system", "n", *METRICS.values()], *rows]

    def as_text(self) -> str:
        """The table of scores; `comparison_text` has more."""
        return "\n".join(text_table(self.cells()))


def compare(systems: list[System], gold: Gold) -> SystemComparison:
    """Score every system, and compare the first, the student, with each of the others.

    Args:
        systems: at least one; names are unique.
        gold: the texts that they answered.
    """
    student, *others = systems
    classes = gold.classes
    return SystemComparison(
        labels=gold.labels,
        texts=gold.texts,
        systems=systems,
        scores={system.name: metrics.scores(system.probs, classes) for system in systems},
        against={other.name: _against(student, other, classes) for other in others},
        confusion=confusion(classes, student.probs.argmax(axis=1), len(gold.labels)),
        notes=gold.notes,
    )


def _against(student: System, other: System, gold: NDArray[np.int64]) -> PairedDifference:
    """The student's difference to one other system. Args: gold int [N]."""
    first, second = student.probs, other.probs
    return PairedDifference(
        accuracy=metrics.difference(metrics.accuracy, first, second, gold),
        macro_f1=metrics.difference(metrics.macro_f1, first, second, gold),
        mcnemar=mcnemar(first.argmax(axis=1) == gold, second.argmax(axis=1) == gold),
    )
