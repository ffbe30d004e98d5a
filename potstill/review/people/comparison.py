"""People's labels side by side: who labelled how much, how far they agree on each question, and what they disagree about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import FormatError
from potstill.contract.questions.question import Question
from potstill.labeler.store.people import HumanDecision
from potstill.review.people.agreement import MISSING, Shares, cohen_kappa, krippendorff_alpha, share_with_interval
from potstill.review.people.answers import key_of, labels_of
from potstill.review.people.decided import Decided


@dataclass(frozen=True)
class PersonCounts:
    """What one person has done."""

    person: str
    n_labelled: int
    n_skipped: int
    n_revealed: int  # texts of which the teacher's answer was shown before
    n_together: int  # labelled texts that somebody else has labelled, too


@dataclass(frozen=True)
class PairAgreement:
    """How far two people agree on a question."""

    one: str
    other: str
    same: Shares  # of the texts that both labelled: equal answers
    kappa: float  # Cohen's; of tags the mean over those where it is defined; NaN: not defined


@dataclass(frozen=True)
class QuestionAgreement:
    """How far people agree on a question."""

    question: Question
    pairs: list[PairAgreement]
    alpha: float  # Krippendorff's over all people; NaN: not defined
    level: str  # what counts as how different


@dataclass(frozen=True)
class Disagreement:
    """A question of a text that people answered differently."""

    text_id: str
    question: Question
    decisions: list[HumanDecision]  # one a person, with labels
    resolution: HumanDecision | None


def counts_of(decided: Decided, person: str) -> PersonCounts:
    """What one person has done so far."""
    n_labelled = n_skipped = n_revealed = n_together = 0
    for text_id in decided.texts_of(person):
        rows = decided.counting(text_id)
        own = [row for row in decided.own(text_id, person).values() if row.labels is not None]
        n_labelled += bool(own)
        n_skipped += not own
        n_revealed += any(row.revealed for row in own)
        n_together += bool(own) and any(row.person != person and row.labels is not None for row in rows)
    return PersonCounts(person, n_labelled, n_skipped, n_revealed, n_together)


def agreement_on(decided: Decided, question: Question, people: Sequence[str]) -> QuestionAgreement:
    """How far people agree on a question, by pairs and altogether."""
    given = [_answers(decided, question, person) for person in people]
    pairs = []
    for (i, one), (j, other) in combinations(enumerate(people), 2):
        both = [text_id for text_id in given[i] if text_id in given[j]]
        if both:
            same = share_with_interval(sum(given[i][text_id] == given[j][text_id] for text_id in both), len(both))
            columns = [_ratings(question, [{t: answers[t] for t in both} for answers in (given[i], given[j])])]
            kappas = [cohen_kappa(table[0], table[1], n) for table, n in columns[0]]
            pairs.append(PairAgreement(one, other, same, _mean(kappas)))
    values = question.level_values if question.kind == "degree" else None
    tables = _ratings(question, given)
    alpha = _mean([krippendorff_alpha(table, values, n) for table, n in tables])
    level = {"degree": "levels by the square of their distance", "tags": "mean over tags"}.get(question.kind, "equal or not")
    return QuestionAgreement(question, pairs, alpha, level)


def disagreements(decided: Decided, questions: Sequence[Question]) -> list[Disagreement]:
    """The questions of texts that people answered differently, those that nobody has settled first."""
    found = []
    for text_id in decided.texts():
        for question in questions:
            rows = [row for row in decided.latest(text_id, question.name).values() if row.labels is not None]
            if len({key_of(row.labels) for row in rows if row.labels is not None}) > 1:
                found.append(Disagreement(text_id, question, rows, decided.resolution(text_id, question.name)))
    return sorted(found, key=lambda one: one.resolution is not None)


def _answers(decided: Decided, question: Question, person: str) -> dict[str, list[str]]:
    """By text, the labels that a person gave to a question; those that are no labels of it any more are left out."""
    found = {}
    for text_id in decided.texts_of(person):
        row = decided.latest(text_id, question.name).get(person)
        if row is not None and row.labels is not None:
            try:
                found[text_id] = labels_of(question, row.labels)
            except FormatError:
                continue
    return found


def _ratings(question: Question, given: Sequence[dict[str, list[str]]]) -> list[tuple[NDArray[np.int64], int]]:
    """(int [R, N] with MISSING, number of labels) of a question; of tags one such table each, with 0 and 1."""
    texts = list(dict.fromkeys(text_id for answers in given for text_id in answers))
    place = {text_id: i for i, text_id in enumerate(texts)}
    names = question.label_names
    if question.kind != "tags":
        table = np.full((len(given), len(texts)), MISSING, dtype=np.int64)
        for rater, answers in enumerate(given):
            for text_id, labels in answers.items():
                table[rater, place[text_id]] = names.index(labels[0])
        return [(table, len(names))]
    tables = np.full((len(names), len(given), len(texts)), MISSING, dtype=np.int64)
    for rater, answers in enumerate(given):
        for text_id, labels in answers.items():
            tables[:, rater, place[text_id]] = [name in labels for name in names]
    return [(table, 2) for table in tables]


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
