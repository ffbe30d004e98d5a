"""Slices: groups of texts on which a student may be better or worse than on the rest.

Axes: N texts, C classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.report.answers import AnsweredTexts

MAX_TARGETS = 8  # the most frequent ones
MAX_PAIRS = 6  # of labels that the teacher's paths disagree on
SPLIT_SHARE = 0.25  # of a text's votes that each of the two labels must have
AGREEMENT_STEPS = ((1.0, "all paths agree"), (0.75, "at least 3 in 4 agree"), (0.5, "at least half agree"), (0.0, "fewer agree"))
_SLACK = 1e-9  # 3 of 4 paths are at least three quarters, whatever the last bit
MIN_TEXTS = 20  # with fewer the interval is wider than any difference worth knowing


@dataclass(frozen=True)
class Slice:
    """A group of texts with something in common."""

    kind: str  # its heading, such as "Length"
    name: str
    members: NDArray[np.bool_]  # [N]


def compile_patterns(asked: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """Compile the regular expressions by slice name, ignoring case; raises UserError for an invalid one."""
    patterns = {}
    for name, expression in asked.items():
        try:
            patterns[name] = re.compile(expression, re.IGNORECASE)
        except re.error as error:
            raise UserError(f"slice {name!r}: {expression!r} is not a regular expression ({error}); use Python's syntax") from error
    return patterns


def slices(answered: AnsweredTexts, patterns: Mapping[str, re.Pattern[str]]) -> list[Slice]:
    """Every slice that holds some of the texts, but not all.

    Slices are made by agreement of the teacher and by pairs of labels that its paths disagree on, where there are soft labels; by
    length, in thirds; by whether the text was cut for the teacher; by target; by knowledge term of the task; and by pattern.
    """
    found = [
        *_by_agreement(answered),
        *_by_contradiction(answered),
        *_by_length(answered),
        *_by_target(answered),
        *_by_knowledge(answered),
        *(Slice("Pattern", name, _holding(answered, pattern)) for name, pattern in patterns.items()),
    ]
    return [part for part in found if 0 < part.members.sum() < len(answered.texts)]


def _where(answered: AnsweredTexts, fits: list[bool]) -> NDArray[np.bool_]:
    """bool [N] of a list."""
    return np.array(fits, dtype=bool).reshape(len(answered.texts))


def _by_agreement(answered: AnsweredTexts) -> Iterator[Slice]:
    """Slices by agreement of the paths; texts that no path could label are in none."""
    below = np.inf
    agreement = np.array([row.agreement if row and sum(row.votes.values()) else np.nan for row in answered.teacher])
    for least, name in AGREEMENT_STEPS:
        with np.errstate(invalid="ignore"):
            yield Slice("Agreement of the teacher", name, (agreement >= least - _SLACK) & (agreement < below - _SLACK))
        below = least


def _by_contradiction(answered: AnsweredTexts) -> Iterator[Slice]:
    """Slices of texts whose paths disagree on two labels, for the most frequent pairs."""
    pairs = {
        pair: _where(answered, [_is_split(row, *pair) for row in answered.teacher]) for pair in combinations(answered.labels, 2)
    }
    frequent = sorted(pairs, key=lambda pair: -int(pairs[pair].sum()))[:MAX_PAIRS]  # stable: equals stay in the task's order
    for pair in frequent:
        yield Slice("Contradiction of the teacher", f"{pair[0]} against {pair[1]}", pairs[pair])


def _is_split(row: SoftLabel | None, first: str, second: str) -> bool:
    """Whether each of the two labels has at least SPLIT_SHARE of the votes."""
    n_votes = sum(row.votes.values()) if row else 0
    return row is not None and n_votes > 0 and min(row.votes[first], row.votes[second]) >= SPLIT_SHARE * n_votes - _SLACK


def _by_length(answered: AnsweredTexts) -> Iterator[Slice]:
    """Thirds by length in characters, and the texts that were cut for the teacher."""
    lengths = np.array([len(text.text) for text in answered.texts])
    short, long = (int(np.percentile(lengths, share, method="higher")) for share in (100 / 3, 200 / 3))
    yield Slice("Length", f"up to {short} characters", lengths <= short)
    yield Slice("Length", f"{short + 1} to {long} characters", (lengths > short) & (lengths <= long))
    yield Slice("Length", f"over {long} characters", lengths > long)
    most = answered.task.input.max_chars
    shown = np.array([len(" ".join(text.text.split())) for text in answered.texts])
    yield Slice("Length", f"cut for the teacher, at {most} characters", shown > most)


def _by_target(answered: AnsweredTexts) -> Iterator[Slice]:
    """Slices by the most frequent targets."""
    counts = Counter(text.target for text in answered.texts if text.target)
    for target, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_TARGETS]:
        yield Slice("Target", target, _where(answered, [text.target == target for text in answered.texts]))


def _by_knowledge(answered: AnsweredTexts) -> Iterator[Slice]:
    """Slices of texts with a term that the task explains."""
    terms = [entry.occurs_in for entry in answered.task.knowledge]
    for entry in answered.task.knowledge:
        yield Slice("Knowledge term", entry.term, _where(answered, [entry.occurs_in(text.text) for text in answered.texts]))
    if terms:
        holds_none = [not any(occurs(text.text) for occurs in terms) for text in answered.texts]
        yield Slice("Knowledge term", "none of them", _where(answered, holds_none))


def _holding(answered: AnsweredTexts, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    """bool [N]: whether the pattern is found in the text."""
    return _where(answered, [pattern.search(text.text) is not None for text in answered.texts])


@dataclass(frozen=True)
class SliceScores:
    """A slice's scores."""

    kind: str
    name: str
    n: int
    accuracy: Score
    macro_f1: Score  # over the gold labels that occur in the slice
    difference: Score  # accuracy minus that of all other texts

    @property
    def small(self) -> bool:
        """Whether the slice or the rest holds too few texts to compare."""
        return min(self.n, self.difference.n - self.n) < MIN_TEXTS

    @property
    def stands_out(self) -> Literal["worse", "better", ""]:
        """Whether the slice is worse or better than the rest: the interval of the difference excludes 0. Else empty."""
        if self.small:
            return ""
        return "worse" if self.difference.high < 0 else "better" if self.difference.low > 0 else ""


def slice_scores(answered: AnsweredTexts, part: Slice) -> SliceScores:
    """The slice's scores with 95 % percentile bootstrap intervals. Args: part, with a text inside and one outside."""
    inside = part.members
    probs, gold = answered.probs[inside], answered.gold[inside]
    return SliceScores(
        kind=part.kind,
        name=part.name,
        n=int(inside.sum()),
        accuracy=metrics.score(metrics.accuracy, probs, gold),
        macro_f1=metrics.score(_macro_f1_over(np.unique(gold)), probs, gold),
        difference=accuracy_difference(answered.right[inside], answered.right[~inside]),
    )


def accuracy_difference(inside: NDArray[np.bool_], outside: NDArray[np.bool_], *, seed: int = 0) -> Score:
    """Accuracy inside minus accuracy outside, with its 95 % percentile bootstrap interval.

    The two groups are resampled independently, because they are different texts. The number of right answers among texts drawn with
    replacement is binomial, so it is drawn directly.

    Args:
        inside, outside: bool [n] each, whether each text was answered right; at least one text.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.binomial(len(group), group.mean(), metrics.N_RESAMPLES) / len(group) for group in (inside, outside)]
    low, high = np.percentile(draws[0] - draws[1], [2.5, 97.5])
    return Score(value=float(inside.mean() - outside.mean()), low=float(low), high=float(high), n=len(inside) + len(outside))


def _macro_f1_over(classes: NDArray[np.int64]) -> metrics.Metric:
    """Macro-F1 over some classes only: a class that does not occur in a slice would count as 0."""

    def macro_f1(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """Args: probs float [N, C]; gold int [N]."""
        n_classes = probs.shape[1]
        predicted = probs.argmax(axis=1)
        hits = np.bincount(gold[predicted == gold], minlength=n_classes)
        claims = np.bincount(predicted, minlength=n_classes) + np.bincount(gold, minlength=n_classes)
        return float(np.mean((2 * hits / np.maximum(claims, 1))[classes]))

    return macro_f1
