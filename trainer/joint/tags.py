"""Tags: a bias for each where it lowers the loss on texts left out, and the probability from which each is said to hold.

By soft labels that probability is the one of the best expected F1; by gold of the best F1, or of a wanted precision.

Axes: N texts, T tags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from potstill.contract.errors import UserError
from potstill.contract.questions.decision import Precision
from potstill.contract.questions.head import HOLDS
from potstill.contract.scores.bounds import Promise
from potstill.contract.scores.switches import Answers, certify_groups, for_reference
from potstill.trainer.calibration.thresholds import (
    MIN_ANSWERS,
    LabelThreshold,
    check_precision,
    lowest_threshold,
    precision_note,
    wilson,
)
from potstill.trainer.calibration.vector_scaling import LARGEST_BIAS, MIN_TEXTS, N_FOLDS

MIN_THRESHOLD_TEXTS = 100  # held-out texts; on fewer the threshold of the best F1 is a matter of chance

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TagThresholds:
    """The probability from which each tag holds, chosen on gold, and what it is worth there."""

    per_tag: list[LabelThreshold]  # a tag without a threshold is never said to hold
    n: int  # texts of the table; for a bound, without those of the reference
    precision: Precision | None  # None: chosen by F1

    @property
    def by_tag(self) -> dict[str, float | None]:
        """Thresholds by tag, as checkpoint and bundle hold them."""
        return {row.label: row.threshold for row in self.per_tag}

    def as_text(self) -> str:
        """A table with a row for each tag, and a line on how the thresholds were chosen."""
        width = max(3, *(len(row.label) for row in self.per_tag))
        lines = [f"{'tag':<{width}}  holds from  precision             recall      n"]
        for row in self.per_tag:
            low, high = wilson(row.n_right, row.n)
            place = "never" if row.threshold is None else f"{row.threshold:.3f}"
            worth = f"{row.precision:.3f} [{low:.3f}, {high:.3f}]" if row.n else "-"
            lines.append(f"{row.label:<{width}}  {place:<10}  {worth:<20}  {row.recall:<6.3f}  {row.n:>5}")
        if self.precision is None:
            return "\n".join([*lines, f"chosen by F1 on {self.n} texts; where nothing is better on both halves of them, {HOLDS:g}"])
        lines += [
            f"{row.label}: never said to hold; {row.n} texts with a probability of {_floor(self.precision.wanted):g} or more "
            f"do not show {self.precision.wanted:g}: ask for less, or give more texts"
            for row in self.per_tag
            if row.threshold is None
        ]
        return "\n".join([*lines, precision_note(self.precision).replace("every label", "every tag")])


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


def fit_precise_tags(probs: _Floats, gold: NDArray[np.int64], names: list[str], wanted: float, promise: Promise) -> TagThresholds:
    """For each tag the lowest probability from which on saying that it holds has the wanted precision by gold.

    By the rule `bound` all tags have it on texts of the same kind with the confidence, as
    :func:`potstill.trainer.calibration.thresholds.fit_thresholds` has it for labels; by `point` they have it on these texts. No tag
    holds below `HOLDS`, unless the wanted precision is below that.

    Args:
        probs: calibrated, float [N, T]. For a bound, in an order that has nothing to do with them.
        gold: 0 or 1, int [N, T].
        wanted: precision, above 0 and at most 1; for a bound below 1.
    Raises:
        UserError: if the precision is out of range, or there are fewer texts than any threshold needs.
    """
    check_precision(wanted, promise)
    if len(gold) < MIN_ANSWERS:
        raise UserError(f"there are {len(gold)} texts to choose thresholds on; give at least {MIN_ANSWERS}")
    n, by_bound, right = len(gold), promise.rule == "bound", gold == 1
    said = probs >= _floor(wanted)
    if by_bound:
        tested = ~for_reference(n, len(names))
        every = np.append(probs[~tested][said[~tested]], 1.0)  # never empty; a 1 begins at the strictest test
        groups = {}
        for t, name in enumerate(names):
            mine, own = tested & said[:, t], ~tested & said[:, t]
            groups[name] = Answers(probs[mine, t], right[mine, t], every).with_own(probs[own, t])
        found = certify_groups(groups, wanted, 1 - promise.confidence)
        best = [found[name].best for name in names]
        sure = [None if switch is None else max(switch.sure, _floor(wanted)) for switch in best]
        probs, gold = probs[tested], gold[tested]
    else:
        sure = [lowest_threshold(probs[said[:, t], t], right[said[:, t], t], wanted) for t in range(len(names))]
    confidence = promise.confidence if by_bound else None
    rows = [
        _row(name, least, probs[:, t], gold[:, t], _floor(wanted)) for t, (name, least) in enumerate(zip(names, sure, strict=True))
    ]
    return TagThresholds(rows, len(gold), Precision(wanted=wanted, n=n, source="gold", confidence=confidence))


def best_f1_on_gold(probs: _Floats, gold: NDArray[np.int64], names: list[str]) -> TagThresholds:
    """For each tag the probability from which on it holds, by F1 on gold, as :func:`fit_tag_thresholds` chooses it.

    Args:
        probs: calibrated, float [N, T].
        gold: 0 or 1, int [N, T].
    Raises:
        UserError: if there are too few texts.
    """
    found = fit_tag_thresholds(probs, gold.astype(np.float64))
    if found is None:
        raise UserError(f"there are {len(gold)} texts to choose tags by F1 on; give at least {MIN_THRESHOLD_TEXTS}")
    rows = [_row(name, least, probs[:, t], gold[:, t], HOLDS) for t, (name, least) in enumerate(zip(names, found, strict=True))]
    return TagThresholds(rows, len(gold), None)


def _floor(wanted: float) -> float:
    """The lowest probability from which on a tag may hold for a precision."""
    return min(HOLDS, wanted)


def _row(name: str, threshold: float | None, probs: _Floats, gold: NDArray[np.int64], floor: float) -> LabelThreshold:
    """A tag's row: the texts that it is said to hold for, or without a threshold could be. Args: probs, gold [N]."""
    said = probs >= (floor if threshold is None else threshold)
    return LabelThreshold(name, threshold, int(said.sum()), int(gold[said].sum()), int(gold.sum()))


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
