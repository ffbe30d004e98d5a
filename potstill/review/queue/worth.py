"""What a person's label of a text is worth: where the teacher doubts, where it may be wrong, and where many texts are alike.

Axes: N texts, C labels, K neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.question import Question
from potstill.labeler.aggregation.other_texts.smoothing import Neighbours
from potstill.review.corpus.texts import TeacherAnswer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SignalWeights:
    """How much each signal counts. They are equal but for those that tell the same thing twice; nothing was tuned."""

    entropy: float = 1.0
    disagreement: float = 1.0
    threshold: float = 0.5
    density: float = 0.5
    contradiction: float = 1.0
    label_error: float = 1.0


_WEIGHTS = SignalWeights()


def worth(
    ids: Sequence[str],
    questions: Sequence[Question],
    answers: Mapping[str, Mapping[str, TeacherAnswer]],
    near: Neighbours | None,
    weights: SignalWeights = _WEIGHTS,
) -> Floats:
    """The worth of a label of each text, float [N], 0 to 1.

    Each signal counts by its rank among the texts, so that its scale does not matter; of several questions the mean is taken.

    Args:
        ids: of the texts, in the order of the neighbours.
        answers: by question and text id; a text without an answer is as doubtful as can be.
        near: neighbours in an embedding space; None: signals that need them are left out.
    """
    total, weight = np.zeros(len(ids)), 0.0
    for question in questions:
        for name, signal in signals(ids, question, answers[question.name], near).items():
            factor = getattr(weights, name)
            total += factor * ranks(signal)
            weight += factor
    return total / max(weight, 1e-9)


def signals(
    ids: Sequence[str], question: Question, answers: Mapping[str, TeacherAnswer], near: Neighbours | None
) -> dict[str, Floats]:
    """Each signal about one question, float [N]; larger: a label is worth more.

    entropy: of the distribution, as a share of the largest possible one.
    disagreement: share of the paths that chose another label than most did.
    threshold: closeness to where the answer would be another one.
    density: mean cosine similarity to the neighbours.
    contradiction: share of the neighbours' distribution on other labels than the text's own.
    label_error: how far the neighbours' share of another label exceeds what it is where that label is given (confident learning:
        Northcutt, Jiang, Chuang 2021, Journal of Artificial Intelligence Research 70, with neighbours as the second opinion).
    """
    probs, known = _probs(ids, question, answers)
    if question.kind == "tags":
        most, margin = len(question.label_names) * math.log(2), 2 * np.abs(probs - 0.5).min(axis=1)
    else:
        most = math.log(max(2, len(question.label_names)))
        ordered = np.sort(probs, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
    found = {
        "entropy": np.where(known, [answers[i].entropy / most if i in answers else 1.0 for i in ids], 1.0),
        "disagreement": np.array([1 - answers[i].agreement if i in answers else 1.0 for i in ids]),
        "threshold": np.where(known, 1 - margin, 1.0),
    }
    if near is not None:
        around = _around(probs, near)
        found["density"] = near.weights.mean(axis=1)
        if question.kind == "tags":
            found["contradiction"] = np.abs(probs - around).mean(axis=1)
        else:
            own = probs.argmax(axis=1)
            found["contradiction"] = 1 - around[np.arange(len(ids)), own]
            found["label_error"] = _label_errors(around, own)
    return found


def ranks(values: Floats) -> Floats:
    """The share of other texts with a lower value, float [N], 0 to 1; equal values get the same, in the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return np.asarray((below + (counts - 1) / 2)[inverse] / max(1, len(values) - 1))


def _probs(ids: Sequence[str], question: Question, answers: Mapping[str, TeacherAnswer]) -> tuple[Floats, NDArray[np.bool_]]:
    """(float [N, C], bool [N] whether the teacher has answered); even shares where it has not."""
    n = len(question.label_names)
    even = [0.5 if question.kind == "tags" else 1 / n] * n
    rows = [list(answers[i].probs.values()) if i in answers else even for i in ids]
    return np.array(rows, dtype=np.float64).reshape(len(ids), n), np.array([i in answers for i in ids])


def _around(probs: Floats, near: Neighbours) -> Floats:
    """The neighbours' mean distribution, weighted by similarity, float [N, C]."""
    total = np.maximum(near.weights.sum(axis=1, keepdims=True), 1e-9)
    around = np.zeros_like(probs)
    for column in range(near.indices.shape[1]):  # one neighbour at a time: an array [N, K, C] could be large
        around += near.weights[:, column, None] * probs[near.indices[:, column]]
    return np.asarray(around / total)


def _label_errors(around: Floats, own: NDArray[np.int64]) -> Floats:
    """How far the neighbours' share of another label exceeds its usual share among texts that have it, float [N], at least 0."""
    n_labels = around.shape[1]
    usual = np.array([around[own == label, label].mean() if (own == label).any() else 1.0 for label in range(n_labels)])
    excess = np.asarray(around - usual)
    excess[np.arange(len(own)), own] = -np.inf
    return np.asarray(np.maximum(excess.max(axis=1), 0.0))
