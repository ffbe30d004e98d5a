"""What a range of a student's outputs means: the question it answers, and the settings that turn its logits into a decision.

A student of several questions has one output for each label of each question, in the task's order; a head is the range of one
question. Choice, yesno and degree: softmax over the range. Tags: a sigmoid for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files.decode import Strict
from potstill.contract.questions.decision import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Conformal,
    Precision,
    check_bias,
    check_confidence,
    check_decision,
)
from potstill.contract.questions.question import KINDS, YES_NO, Kind, Question
from potstill.contract.scores.record import Scores
from potstill.contract.task import Label

HOLDS = 0.5  # a tag holds from this probability on, unless its threshold says otherwise


class Head(Strict):
    """One question of a student: its outputs and how they are read."""

    name: str  # of the question
    kind: Kind
    labels: list[str]  # in output order
    temperature: float = 1.0  # divides the logits; above 0
    bias: list[float] | None = None  # by label, added after that
    thresholds: dict[str, float | None] | None = None  # answered at or above this only; null: never; tags: holds from this on
    precision: Precision | None = None  # the target that the thresholds were chosen for
    conformal: Conformal | None = None  # for label sets; not for tags
    label_shares: dict[str, float] | None = None  # mean probability of each label over the held-out texts; of tags each for itself
    values: list[float] | None = None  # degree: what each level is worth, rising
    n_train: int = 0  # texts with an answer to this question that were trained on
    n_validation: int = 0  # and that were held out
    scores: dict[str, Scores] = {}  # by split

    @property
    def is_softmax(self) -> bool:
        """Whether the probabilities of all labels sum to 1; those of tags are independent."""
        return self.kind != "tags"


class Answering(Protocol):
    """The fields of `student.json` and `bundle.json` that heads belong to."""

    @property
    def labels(self) -> list[str]:
        """All outputs: labels, or with heads `question/label`."""

    @property
    def heads(self) -> list[Head] | None:
        """The questions; None: one choice, and the outputs are its labels."""


def flat_labels(heads: Sequence[Head]) -> list[str]:
    """All outputs in order, as `question/label`."""
    return [f"{head.name}/{label}" for head in heads for label in head.labels]


def ranges(heads: Sequence[Head]) -> list[slice]:
    """The outputs of each head, as slices of the logits."""
    found, start = [], 0
    for head in heads:
        found.append(slice(start, start + len(head.labels)))
        start += len(head.labels)
    return found


def as_question(head: Head) -> Question:
    """The question that a head answers, as far as a bundle knows it: enough to read gold answers to it."""
    labels = [] if head.kind == "yesno" else [Label(name=name) for name in head.labels]
    return Question(name=head.name, kind=head.kind, question=head.name, labels=labels, values=head.values or [])


def check_heads(path: Path, owner: Answering) -> None:
    """Raise FormatError, naming the field, unless the heads are whole, differ, and cover the outputs."""
    heads = owner.heads
    if heads is None:
        return
    if not heads:
        raise FormatError(path, "heads", "is empty; leave it out, or train again")
    for i, head in enumerate(heads):
        place = f"heads[{i}]"
        if head.name in [other.name for other in heads[:i]]:
            raise FormatError(path, f"{place}.name", f"repeats {head.name!r}; each question has one head")
        try:
            _check_head(path, head)
        except FormatError as error:
            raise FormatError(path, f"{place}.{error.place}", error.problem) from None
    if owner.labels != flat_labels(heads):
        raise FormatError(path, "labels", "are not those of the heads, in their order; train or export again")


def _check_head(path: Path, head: Head) -> None:
    """Check one head."""
    if head.kind not in KINDS:
        raise FormatError(path, "kind", f"is {head.kind!r}; allowed: {', '.join(KINDS)}")
    if head.kind == "yesno" and head.labels != list(YES_NO):
        raise FormatError(path, "labels", f"are {head.labels}; those of a yesno question are {list(YES_NO)}")
    check_bias(path, head.labels, head.bias)
    _check_values(path, head)
    if head.is_softmax:
        check_decision(path, head)
        return
    if not head.labels or len(set(head.labels)) != len(head.labels):
        raise FormatError(path, "labels", f"are {head.labels}; there must be at least 1, all different")
    if not MIN_TEMPERATURE <= head.temperature <= MAX_TEMPERATURE:
        raise FormatError(path, "temperature", f"is {head.temperature}; it must be from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}")
    if head.conformal is not None:
        raise FormatError(path, "conformal", "is given for tags, which have no label set; leave it out")
    for field, values in (("thresholds", head.thresholds), ("label_shares", head.label_shares)):
        for name, value in (values or {}).items():
            if name not in head.labels:
                raise FormatError(path, f"{field}.{name}", f"is not a tag; allowed: {', '.join(head.labels)}")
            if value is not None and not 0 <= value <= 1:
                raise FormatError(path, f"{field}.{name}", f"is {value}; it must be from 0 to 1")
    if head.precision is not None:
        check_confidence(path, "precision.confidence", head.precision.confidence)


def _check_values(path: Path, head: Head) -> None:
    """Check that the levels of a degree, and nothing else, have rising values."""
    if (head.kind == "degree") != (head.values is not None):
        raise FormatError(path, "values", f"are {head.values}; a head of kind degree has them, and no other")
    values = head.values or []
    if head.values is not None and len(values) != len(head.labels):
        raise FormatError(path, "values", f"has {len(values)} numbers; there are {len(head.labels)} levels")
    rising = all(low < high for low, high in pairwise(values))
    if not rising or not all(math.isfinite(value) for value in values):
        raise FormatError(path, "values", f"are {values}; they must be finite and rise from level to level")


def check_one_question(place: Path, owner: Answering, what: str) -> None:
    """Raise UserError if there are heads, for what is made for a bundle of one choice alone.

    Args:
        place: of the bundle, for the message.
        what: takes no such bundle, to begin the second half of the message with: "potstill adapt".
    """
    if owner.heads is not None:
        asked = ", ".join(f"{head.name} ({head.kind})" for head in owner.heads)
        raise UserError(
            f"{place}: answers {asked}; {what} takes a bundle of one choice: train a student for the question that needs it "
            "(potstill train --question NAME), and export that"
        )


def with_scores(head: Head, split: str, found: Scores) -> Head:
    """The head with the scores of a split."""
    return msgspec.structs.replace(head, scores={**head.scores, split: found})
