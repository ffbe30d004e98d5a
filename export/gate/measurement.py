"""Measure a form of the model against float: scores, changed labels and probabilities, and the effect of a batch.

Scores are on the validation texts alone. Changes are measured on all texts of the gate: how a form's answer differs from float's
can be seen on any text that the quantizer has not seen. Every form answers through the session and tokenizer that will serve it.
Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from potstill.contract.checkpoint import Student
from potstill.contract.questions.kind_scores import MAIN, difference_of, kind_metrics
from potstill.contract.questions.probabilities import decided, joint_probs, tag_thresholds
from potstill.contract.scores.metrics import difference, ece, log_loss, macro_f1
from potstill.export.gate.quality import FormQuality, QuestionQuality
from potstill.export.gate.source import GateTexts, TaughtQuestion, group_by_length
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.session import open_session
from potstill.serve.runtime.tokenizer import Feeds, padded

BATCH = 8  # texts in a batch when the effect of batches is measured
N_BATCHES = 8  # about so many batches of each kind are run
EXTRA_PADDING = 16  # tokens of padding beyond the longest text of a batch, up to the student's maximum

Reading = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # logits [N, C] to probabilities [N, C]


def reading_of(student: Student) -> Reading:
    """How a student's logits become probabilities: with its temperature, or question by question with theirs."""
    heads, temperature = student.heads, student.temperature
    return (lambda logits: softmax(logits, temperature)) if heads is None else (lambda logits: joint_probs(heads, logits))


def form_logits(model: Path, feeds: Sequence[Feeds], threads: int) -> NDArray[np.float32]:
    """Run a model file on each text alone, as it is served; float32 [N, C]. `threads` texts run at a time."""
    session = open_session(model)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda feed: with_denormals_as_zero(session.run, None, feed)[0], feeds)))


def measure_form(
    variant: str, model: Path, logits: NDArray[np.float32], reference: NDArray[np.float32], on: GateTexts, reading: Reading
) -> FormQuality:
    """Fill a form's row of the report; time, operators and verdict are still empty.

    Args:
        variant: name of the form.
        model: its file.
        logits: its logits [N, C].
        reference: the float graph's logits [N, C].
        on: the texts of the gate.
        reading: of the student, see :func:`reading_of`.
    """
    probs, float_probs = reading(logits), reading(reference)
    batch_change, padding_change = batch_effects(model, logits, on, reading)
    questions = [measure_question(question, probs, float_probs) for question in on.questions] or None
    return FormQuality(
        variant=variant,
        bytes=model.stat().st_size,
        ms_p50=0.0,
        n=len(logits),
        **(_of_all(questions) if questions else _of_one(probs, float_probs, on)),
        prob_change_max=float(np.abs(probs - float_probs).max()),
        batch_change_max=batch_change,
        padding_change_max=padding_change,
        operators={},
        questions=questions,
    )


def _of_one(probs: NDArray[np.float64], float_probs: NDArray[np.float64], on: GateTexts) -> dict[str, Any]:
    """Scores and changed labels of a choice, by field of `FormQuality`."""
    validation, float_validation = probs[: on.n_validation], float_probs[: on.n_validation]
    drop = difference(macro_f1, float_validation, validation, on.majority)
    flips = int(np.sum(probs.argmax(axis=1) != float_probs.argmax(axis=1)))
    return {
        "macro_f1": macro_f1(validation, on.majority),
        "log_loss": log_loss(validation, on.majority),
        "ece": ece(validation, on.majority),
        "macro_f1_drop": drop.value,
        "macro_f1_drop_low": drop.low,
        "agreement": 1 - flips / len(probs),
        "flips": flips,
    }


def _of_all(questions: Sequence[QuestionQuality]) -> dict[str, Any]:
    """The same for several questions: means of what is reported, the worst of what is judged."""
    return {
        "macro_f1": float(np.mean([one.score for one in questions])),
        "log_loss": float(np.mean([one.log_loss for one in questions])),
        "ece": float(np.mean([one.ece for one in questions])),
        "macro_f1_drop": max(one.drop for one in questions),
        "macro_f1_drop_low": max(one.drop_low for one in questions),
        "agreement": min(one.agreement for one in questions),
        "flips": max(one.flips for one in questions),
    }


def measure_question(question: TaughtQuestion, probs: NDArray[np.float64], float_probs: NDArray[np.float64]) -> QuestionQuality:
    """Measure a form on one question. Args: probabilities of all questions, float [N, C], of the form and of float."""
    head, majority = question.head, question.majority
    mine, floats = probs[:, question.outputs], float_probs[:, question.outputs]
    here, float_here = mine[question.places], floats[question.places]
    found = kind_metrics(head.kind, values=head.values, thresholds=tag_thresholds(head))
    main = MAIN[head.kind]
    drop = difference_of(found[main], float_here, here, majority)
    changed = (decided(head, mine) != decided(head, floats)).sum(axis=0)  # [1], or of tags one for each
    flips = int(changed.max())
    pairs = (here, majority)
    if not head.is_softmax:  # each tag as two labels
        pairs = np.stack([here.ravel(), 1 - here.ravel()], axis=1), 1 - majority.ravel()
    return QuestionQuality(
        name=head.name,
        metric=main,
        score=found[main](here, majority),
        n_validation=len(majority),
        drop=drop.value,
        drop_low=drop.low,
        log_loss=log_loss(*pairs),
        ece=found["ece"](here, majority),
        n=len(probs),
        agreement=1 - flips / len(probs),
        flips=flips,
    )


def batch_effects(model: Path, alone: NDArray[np.float32], on: GateTexts, reading: Reading) -> tuple[float, float]:
    """The largest change of a probability from answering in a batch instead of alone.

    Args:
        model: the form's file.
        alone: its logits [N, C], each text run alone.
        on: the texts of the gate.
        reading: of the student, see :func:`reading_of`.
    Returns:
        (the change in batches of texts of equal length, the change in padded batches of mixed lengths), each 0 to 1. Where no two
        texts have the same length, the shortest is batched with itself.
    """
    session = open_session(model)
    groups = group_by_length(on.feeds, BATCH)
    even = [group for group in groups if len(group) > 1] or [groups[0] * 2]
    mixed = [list(range(start, min(start + BATCH, len(on.feeds)))) for start in range(0, len(on.feeds), BATCH)]
    return (
        _largest_change(session, alone, on, reading, even[:: max(1, len(even) // N_BATCHES)], 0),
        _largest_change(session, alone, on, reading, mixed[:: max(1, len(mixed) // N_BATCHES)], EXTRA_PADDING),
    )


def _largest_change(
    session: ort.InferenceSession,
    alone: NDArray[np.float32],
    on: GateTexts,
    reading: Reading,
    groups: list[list[int]],
    extra: int,
) -> float:
    """The largest change of a probability over groups of texts, each run as one batch with `extra` tokens of padding."""
    change = 0.0
    for group in groups:
        feeds = [on.feeds[i] for i in group]
        longest = max(feed["input_ids"].shape[1] for feed in feeds)
        batch = padded(feeds, on.pad_id, max(longest, min(longest + extra, on.max_tokens)))
        found = with_denormals_as_zero(session.run, None, batch)[0]
        change = max(change, float(np.abs(reading(found) - reading(alone[group])).max()))
    return change
