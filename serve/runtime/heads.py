"""The answers to the questions of a bundle: from the logits of all heads, side by side, to a label, tags or a degree for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from potstill.contract.questions.head import HOLDS, Head, ranges
from potstill.contract.questions.question import Kind

ThresholdVerdict = Literal["no threshold", "reached", "missed", "never answered"]  # the label's probability against its threshold
SET_SLACK = 1e-8  # added to the quantile: a text whose score equals it belongs in the set, whatever the last bits


class QuestionAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one question about a text."""

    kind: Kind
    probs: dict[str, float]  # by label, in output order, summing to 1 but for tags; only the answered ones' with all_scores=False
    abstain: bool  # True: the label's probability is below its threshold, so a person should see the text; never for tags
    label: str = ""  # the most probable one; of tags ""
    tags: list[str] | None = None  # those that hold, in output order; None: the question is not about tags
    value: float | None = None  # of a degree: the expected value of its levels
    label_set: list[str] | None = None  # in output order, on request; empty if no label fits the text
    verdict: ThresholdVerdict = "no threshold"
    threshold: float | None = 0.0  # lowest probability at which the label is answered; None: never answered


class HeadReader:
    """How the logits of several questions are read; it holds no state, and many threads may share it."""

    def __init__(self, heads: Sequence[Head]) -> None:
        """Args: heads, of a manifest that was checked."""
        self._parts = [
            (head, part, thresholds_in_order(head.thresholds, head.labels)) for head, part in zip(heads, ranges(heads), strict=True)
        ]

    def probs(self, logits: list[float]) -> list[float]:
        """The probabilities of all labels of all questions, side by side.

        Args:
            logits: C numbers, of all heads.
        Returns:
            C numbers from 0 to 1: those of a question sum to 1, but those of tags are independent.
        """
        found: list[float] = []
        for head, part, _ in self._parts:
            row = softmax_row if head.is_softmax else sigmoid_row
            found += row(logits[part], head.temperature, head.bias)
        return found

    def answers(self, probs: list[float], *, sets: bool, all_scores: bool) -> dict[str, QuestionAnswer]:
        """The answer to each question, by its name and in order. Args: as `Classifier.classify`; probs, C numbers, of all heads."""
        found = {
            head.name: _answer(head, probs[part], least, sets) if head.is_softmax else _tags(head, probs[part], least)
            for head, part, least in self._parts
        }
        return found if all_scores else {name: _short(answer) for name, answer in found.items()}


def _answer(head: Head, probs: list[float], thresholds: list[float | None], sets: bool) -> QuestionAnswer:
    """The answer to a choice, a yes-or-no question or a degree; a tie goes to the earlier label."""
    prob = max(probs)
    best = probs.index(prob)
    label, least = head.labels[best], thresholds[best]
    scores = dict(zip(head.labels, probs, strict=True))
    value = None if head.values is None else math.fsum(map(math.prod, zip(head.values, probs, strict=True)))
    label_set = None
    if sets and head.conformal is not None:
        label_set = labels_in_set(head.labels, probs, head.conformal.quantile)
    if least is None:
        return QuestionAnswer(head.kind, scores, False, label, None, value, label_set)
    if least == math.inf:
        return QuestionAnswer(head.kind, scores, True, label, None, value, label_set, "never answered", None)
    missed = prob < least
    return QuestionAnswer(head.kind, scores, missed, label, None, value, label_set, "missed" if missed else "reached", least)


def _tags(head: Head, probs: list[float], thresholds: list[float | None]) -> QuestionAnswer:
    """The answer to a question about tags; a tag without a threshold holds from `HOLDS` on."""
    rows = zip(head.labels, probs, thresholds, strict=True)
    tags = [name for name, prob, least in rows if prob >= (HOLDS if least is None else least)]
    return QuestionAnswer(head.kind, dict(zip(head.labels, probs, strict=True)), False, "", tags)


def _short(answer: QuestionAnswer) -> QuestionAnswer:
    """The answer with the probabilities of what it says alone."""
    said = [answer.label] if answer.tags is None else answer.tags
    return msgspec.structs.replace(answer, probs={name: answer.probs[name] for name in said})


def labels_in_set(labels: list[str], probs: list[float], quantile: float) -> list[str]:
    """The labels that may be right, in output order. Args: the probability of each; a split-conformal quantile, 0 to 1."""
    most = quantile + SET_SLACK
    return [name for name, prob in zip(labels, probs, strict=True) if 1 - prob <= most]


def thresholds_in_order(thresholds: dict[str, float | None] | None, labels: list[str]) -> list[float | None]:
    """Each label's threshold, in label order: infinite for a label never answered, None for one without a threshold."""
    found: list[float | None] = []
    for name in labels:
        if thresholds is None or name not in thresholds:
            found.append(None)
        else:
            found.append(math.inf if (least := thresholds[name]) is None else least)
    return found


def softmax_row(logits: list[float], temperature: float, bias: list[float] | None = None) -> list[float]:
    """Probabilities of one text's logits; they sum to 1. Raises ValueError if bias and logits differ in length.

    For the few labels of a task, plain floats are faster than arrays: 1 microsecond for three labels, where arrays take 10.

    Args:
        logits: C numbers.
        temperature: divides the logits; above 0.
        bias: C numbers, added after that; None adds nothing.
    """
    scaled = [logit / temperature for logit in logits]
    if bias is not None:
        scaled = [value + more for value, more in zip(scaled, bias, strict=True)]
    top = max(scaled)  # the shift keeps exp() finite
    weights = [math.exp(value - top) for value in scaled]
    total = sum(weights)
    return [weight / total for weight in weights]


def sigmoid_row(logits: list[float], temperature: float, bias: list[float] | None = None) -> list[float]:
    """The probability of each of one text's logits for itself; arguments and errors as in :func:`softmax_row`."""
    scaled = [logit / temperature for logit in logits]
    if bias is not None:
        scaled = [value + more for value, more in zip(scaled, bias, strict=True)]
    # of the two forms the one whose exp() stays finite
    return [1 / (1 + math.exp(-value)) if value >= 0 else (small := math.exp(value)) / (1 + small) for value in scaled]
