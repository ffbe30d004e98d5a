"""Thresholds: for each label, the probability from which on its answers have a wanted precision; below it a student abstains.

By the rule `bound` they have it on texts of the same kind, with a confidence; by the rule `point` on the texts at hand.
Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.questions.decision import LabelSource, Precision
from potstill.contract.scores.bounds import Promise
from potstill.contract.scores.switches import Answers, certify_groups, fewest_answers, for_reference

MIN_ANSWERS = 10  # answers at or above a threshold; a precision over fewer says little
Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class LabelThreshold:
    """One label's threshold, with the precision and recall of its answers on the texts that it was chosen on."""

    label: str
    threshold: float | None  # None: no threshold reaches the wanted precision
    n: int  # answers at or above the threshold; without one, all answers of the label
    n_right: int  # of these
    n_gold: int  # texts that have the label

    @property
    def precision(self) -> float:
        """Share of right answers among the n; 0 without an answer."""
        return self.n_right / self.n if self.n else 0.0

    @property
    def recall(self) -> float:
        """Share of the label's texts that get it as an answer; 0 without such a text."""
        return self.n_right / self.n_gold if self.n_gold else 0.0


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of all labels, in output order."""

    precision: Precision
    per_label: list[LabelThreshold]
    n_tested: int  # texts of the table; for a bound, without those of the reference

    @property
    def by_label(self) -> dict[str, float | None]:
        """Thresholds by label, as checkpoint and bundle hold them."""
        return {row.label: row.threshold for row in self.per_label}

    def as_text(self) -> str:
        """A table with a row for each label, and a line on what the precision means."""
        width = max(5, *(len(row.label) for row in self.per_label))
        lines = [f"{'label':<{width}}  threshold  precision             recall      n"]
        for row in self.per_label:
            low, high = wilson(row.n_right, row.n)
            place = "never" if row.threshold is None else f"{row.threshold:.3f}"
            worth = f"{row.precision:.3f} [{low:.3f}, {high:.3f}]" if row.n else "-"
            lines.append(f"{row.label:<{width}}  {place:<9}  {worth:<20}  {row.recall:<6.3f}  {row.n:>5}")
        lines += [self._unreached(row) for row in self.per_label if row.threshold is None]
        n_answered, n = sum(row.n for row in self.per_label if row.threshold is not None), self.n_tested
        lines.append(f"{n_answered} of {n} texts are answered ({n_answered / n:.0%}); the student abstains from the others")
        return "\n".join([*lines, precision_note(self.precision)])

    def _unreached(self, row: LabelThreshold) -> str:
        """The reason why a label has no threshold."""
        confidence = self.precision.confidence
        if confidence is not None:
            return self._unproven(row, confidence)
        if row.n < MIN_ANSWERS:
            return f"{row.label}: always abstains; {row.n} texts are answered with it, at least {MIN_ANSWERS} are needed"
        return f"{row.label}: always abstains; no threshold reaches {self.precision.wanted:g} with {MIN_ANSWERS} answers"

    def _unproven(self, row: LabelThreshold, confidence: float) -> str:
        """The reason why no bound holds for a label, and how many texts it takes."""
        wanted, n_labels = self.precision.wanted, len(self.per_label)
        fewest = fewest_answers(wanted, (1 - confidence) / n_labels)
        if row.n >= fewest:
            return (
                f"{row.label}: always abstains; no threshold shows {wanted:g} with {confidence:.0%} confidence on {row.n} answers: "
                "ask for less, or give more texts"
            )
        n_texts = f", or about {math.ceil(fewest * self.precision.n / row.n)} texts" if row.n else ""
        return (
            f"{row.label}: always abstains; {row.n} texts are answered with it, but {wanted:g} with {confidence:.0%} confidence "
            f"takes at least {fewest} right ones{n_texts}"
        )


_PROMISE = Promise()


def fit_thresholds(
    probs: NDArray[np.float64],
    truth: NDArray[np.int64],
    labels: list[str],
    wanted: float,
    source: LabelSource,
    promise: Promise = _PROMISE,
) -> Thresholds:
    """Choose each label's lowest threshold at which its answers have the wanted precision.

    A text is answered with its most probable label, so only those texts count for a label's precision. By the rule `bound`, all
    labels have the precision on texts of the same kind with the confidence: the error is divided among them. By the rule `point`
    they have it on these texts, and at least `MIN_ANSWERS` answers; a threshold chosen so is also a lucky one.

    Args:
        probs: calibrated, float [N, C]; rows sum to 1. For a bound, in an order that has nothing to do with them.
        truth: int [N], the class that counts as right.
        labels: C names, in output order.
        wanted: precision, above 0 and at most 1; for a bound below 1.
        source: whose labels the truth is.
        promise: a bound with its confidence, or the point rule.
    Raises:
        UserError: if the precision is out of range, or there are fewer texts than any threshold needs.
    """
    check_precision(wanted, promise)
    if len(truth) < MIN_ANSWERS:
        raise UserError(f"there are {len(truth)} texts to choose thresholds on; give at least {MIN_ANSWERS}")
    by_bound, n = promise.rule == "bound", len(truth)
    if by_bound:
        probs, truth, chosen = _certified(probs, truth, labels, wanted, 1 - promise.confidence)
    else:
        answers, top = probs.argmax(axis=1), probs.max(axis=1)
        chosen = {name: lowest_threshold(top[answers == c], truth[answers == c] == c, wanted) for c, name in enumerate(labels)}
    rows = [_row(name, chosen[name], probs, truth, c) for c, name in enumerate(labels)]
    confidence = promise.confidence if by_bound else None
    return Thresholds(Precision(wanted=wanted, n=n, source=source, confidence=confidence), rows, len(truth))


def _row(label: str, threshold: float | None, probs: NDArray[np.float64], truth: NDArray[np.int64], c: int) -> LabelThreshold:
    """A label's row: its answers from the threshold on, or without one all of them."""
    mine = probs.argmax(axis=1) == c
    counted = mine if threshold is None else mine & (probs.max(axis=1) >= threshold)
    n_right = int((truth[counted] == c).sum())
    return LabelThreshold(label, threshold, int(counted.sum()), n_right, int((truth == c).sum()))


def _certified(
    probs: NDArray[np.float64], truth: NDArray[np.int64], labels: list[str], wanted: float, error: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, float | None]]:
    """(the texts that were tested: probabilities, classes; each label's threshold). The others only tell where tests begin."""
    tested = ~for_reference(len(truth), len(labels))
    answers, top = probs.argmax(axis=1), probs.max(axis=1)
    groups = {}
    for c, name in enumerate(labels):
        mine = tested & (answers == c)
        every, own = top[~tested], top[~tested & (answers == c)]
        groups[name] = Answers(top[mine], truth[mine] == c, every).with_own(own)
    found = certify_groups(groups, wanted, error)
    chosen = {name: None if result.best is None else result.best.sure for name, result in found.items()}
    return probs[tested], truth[tested], chosen


def lowest_threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_], wanted: float) -> float | None:
    """The lowest confidence at which the answers at or above it are right often enough, or None.

    Args:
        confidence: float [n], probability of each answer.
        right: bool [n], whether it is right.
        wanted: precision, above 0 and at most 1.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, hits = confidence[order], np.cumsum(right[order])
    n_claims = np.arange(1, len(order) + 1)
    last_of_equals = np.append(falling[1:] != falling[:-1], True) if len(order) else np.array([], dtype=bool)
    good = (
        last_of_equals & (n_claims >= MIN_ANSWERS) & (hits >= wanted * n_claims - 1e-9)
    )  # 9 of 10 reach 0.9, whatever the last bit
    return float(falling[good][-1]) if good.any() else None


def check_precision(wanted: float, promise: Promise = _PROMISE) -> None:
    """Raise UserError unless the precision is above 0 and at most 1, and below 1 for a bound. Args: wanted, a share."""
    if not 0 < wanted <= 1:  # this way round, NaN is refused too
        raise UserError(f"precision is {wanted:g}; it must be above 0 and at most 1")
    if wanted == 1 and promise.rule == "bound":
        raise UserError("precision is 1, which no number of texts can show; ask for less, or for what holds on these: --rule point")


def precision_note(precision: Precision) -> str:
    """A line that says what a precision promises, and by whose labels."""
    wanted, n = f"{precision.wanted:g}", precision.n
    if precision.confidence is None:
        where = f"was reached on these {n} texts, and on others about every second time"
    else:
        where = f"holds for every label on texts of this kind, with {precision.confidence:.0%} confidence ({n} texts)"
    if precision.source == "gold":
        return f"precision {wanted} {where}, by people's labels"
    return (
        f"precision {wanted} {where}: agreement with the teacher, not with people, on the held-out texts, which chose epoch and "
        "temperature too; for people's labels: potstill calibrate CHECKPOINT GOLD"
    )


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, within 0 to 1; (0, 1) without a trial.

    Source: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = n_right / n, Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
