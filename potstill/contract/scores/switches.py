"""Certified switches: the lowest probability from which on answers are right with a stated accuracy and confidence.

A switch that is chosen by the score on the texts at hand exceeds what it states on new ones about every second time. Here switches
are tested from the strictest on, each by an exact binomial test, until one fails: those before it are certified.
Source: fixed-sequence testing in Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052; over groups: Holm 1979, Scandinavian
Journal of Statistics 6(2), in the graphs of Bretz et al. 2009, Statistics in Medicine 28(4).
Axes: N texts, R texts of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores.bounds import fewest_texts, tail

SWITCHES: NDArray[np.float64] = np.append(
    1 / (1 + np.exp(-np.linspace(9.2, -4.6, 400))), 0.0
)  # that can be certified, from the strictest on
START_SHARE = 0.25  # of answers, at which the tests begin: stricter switches leave too few answers to show anything
N_REFERENCE = 40  # texts that only tell where to begin, and twenty more for each group beyond the second
MIN_REFERENCE = 10  # answers of a group that tell where its tests begin; with fewer, those of all groups do


@dataclass(frozen=True)
class Answers:
    """Answers to texts with labels, and the probabilities of other answers.

    Where the tests begin depends on the other answers alone: that is what makes a confidence hold.
    """

    top: NDArray[np.float64]  # [N], the probability of each text's answer
    right: NDArray[np.bool_]  # [N], whether it is right
    reference: NDArray[np.float64]  # [R], such probabilities of other texts of the same kind

    def with_own(self, reference: NDArray[np.float64]) -> Answers:
        """The same with a group's own reference, where that is large enough."""
        return replace(self, reference=reference) if len(reference) >= MIN_REFERENCE else self


@dataclass(frozen=True)
class Switch:
    """A probability from which on answers are given, and what they were worth on the texts at hand."""

    sure: float  # 0 to 1
    n_answered: int
    n_right: int


@dataclass(frozen=True)
class Tested:
    """The switches that were certified, and whether no test failed."""

    passed: list[Switch]  # by falling probability
    complete: bool  # every switch passed

    @property
    def best(self) -> Switch | None:
        """The lowest certified switch, which answers most; None if none was certified."""
        return self.passed[-1] if self.passed else None


def certify_switches(answers: Answers, accuracy: float, error: float) -> Tested:
    """Certify switches: with a probability of at most `error`, one of them has a lower accuracy on texts of this kind.

    Args:
        answers: of texts drawn like those to come, in any order.
        accuracy: of the answers at or above a switch, above 0 and below 1.
        error: above 0 and below 1.
    """
    falling = np.sort(answers.top)[::-1]
    hits = np.concatenate([[0], np.cumsum(answers.right[np.argsort(-answers.top, kind="stable")])])
    counts: NDArray[np.intp] = np.searchsorted(-falling, -SWITCHES, side="right")
    passed: list[Switch] = []
    for at in range(_start(answers.reference, len(answers.top), fewest_answers(accuracy, error)), len(SWITCHES)):
        n, n_right = int(counts[at]), int(hits[counts[at]])
        if n == 0 or tail(n_right, n, accuracy) > error:
            return Tested(passed, False)
        passed.append(Switch(float(SWITCHES[at]), n, n_right))
    return Tested(passed, True)


def fewest_answers(accuracy: float, error: float) -> int:
    """The number of answers, all of them right, without which nothing is certified. Args: as for :func:`certify_switches`."""
    return fewest_texts(accuracy, 1 - error)


def _start(reference: NDArray[np.float64], n: int, fewest: int) -> int:
    """Index of the switch at which the tests begin: never where fewer than twice the fewest answers are expected."""
    share = min(0.95, max(START_SHARE, 2 * fewest / max(n, 1)))
    return int(np.searchsorted(-SWITCHES, -np.quantile(reference, 1 - share)))


def for_reference(n: int, n_groups: int = 1) -> NDArray[np.bool_]:
    """Which of some texts only tell where to begin, bool [n]: up to a fifth of them, evenly spread."""
    n_reference = min(n // 5, N_REFERENCE + 20 * max(0, n_groups - 2))
    chosen: NDArray[np.bool_] = np.zeros(n, dtype=bool)
    chosen[np.linspace(0, n - 1, n_reference).round().astype(int)] = True
    return chosen


def certify_groups(groups: Mapping[str, Answers], accuracy: float, error: float) -> dict[str, Tested]:
    """Certify switches in each of several groups at once: with a probability of at most `error`, one of any group is wrong.

    The error is divided evenly among groups with enough texts; a group in which no test failed leaves its part to the others.

    Args:
        groups: by name, at least one.
        accuracy, error: as for :func:`certify_switches`.
    """
    few = [name for name in groups if len(groups[name].top) < fewest_answers(accuracy, error)]
    found = dict.fromkeys(few, Tested([], False))  # nothing could be shown of them, so they take no part of the error
    while len(found) < len(groups):
        waiting = [name for name in groups if name not in found]
        tested = {name: certify_switches(groups[name], accuracy, error / len(waiting)) for name in waiting}
        complete = {name: result for name, result in tested.items() if result.complete}
        found |= complete or tested
    return {name: found[name] for name in groups}


def share_at_least(n_answered: int, n: int, confidence: float) -> float:
    """The share of texts that a switch answers at least, with this confidence, however the switch was chosen on these texts.

    Args:
        n_answered, n: counts, n at least 1.
        confidence: at least 0.5 and below 1.
    Source: Massart 1990, Annals of Probability 18(3): the one-sided bound on all shares of one sample at once.
    """
    return max(0.0, n_answered / n - float(np.sqrt(-np.log(1 - confidence) / (2 * n))))
