"""The questions of a bundle: each head fitted to the outputs of the form that is shipped, and the graph with an output for each.

Axes: B texts in a batch, n validation texts that answer a question, C its labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from potstill.contract.questions.head import Head, ranges
from potstill.contract.questions.kind_scores import scores_of
from potstill.contract.questions.probabilities import head_probs, tag_thresholds
from potstill.export.bundle.recalibration import (
    MIN_TEXTS,
    carry_cutoff,
    carry_label_sets,
    carry_thresholds,
    correct_temperature,
)
from potstill.export.gate.source import GateTexts, TaughtQuestion
from potstill.serve.runtime.session import OUTPUT

_Floats = NDArray[np.float64]


def shipped_heads(heads: Sequence[Head], on: GateTexts, reference: NDArray[np.float32], logits: NDArray[np.float32]) -> list[Head]:
    """The checkpoint's heads, with temperature, thresholds and label sets fitted to the form's own outputs.

    Args:
        heads: of the checkpoint.
        on: the texts of the gate.
        reference: logits of the float form, float32 [N, outputs], to which the checkpoint's settings belong.
        logits: logits of the shipped form, float32 [N, outputs].
    """
    taught = {question.head.name: question for question in on.questions}
    return [_shipped(taught[head.name], reference, logits) if head.name in taught else head for head in heads]


def with_question_outputs(model: onnx.ModelProto, heads: Sequence[Head]) -> onnx.ModelProto:
    """The graph with an output `logits.QUESTION` for each question, float32 [B, C], beside `logits` of all side by side."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, sizes = copy.graph, [part.stop - part.start for part in ranges(heads)]
    names = [output_name(head) for head in heads]
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), "labels_of_questions"))
    graph.node.append(helper.make_node("Split", [OUTPUT, "labels_of_questions"], names, "questions", axis=1))
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size]) for name, size in zip(names, sizes, strict=True)
    )
    return copy


def output_name(head: Head) -> str:
    """The graph's output with the logits of one question."""
    return f"{OUTPUT}.{head.name}"


def _shipped(question: TaughtQuestion, reference: NDArray[np.float32], logits: NDArray[np.float32]) -> Head:
    """One head, fitted to the form's outputs."""
    head = question.head
    before, after = (all_logits[question.places][:, question.outputs].astype(np.float64) for all_logits in (reference, logits))
    fitted = msgspec.structs.replace(head, temperature=_temperature(question, before, after))
    float_probs, probs = head_probs(head, before), head_probs(fitted, after)
    thresholds = head.thresholds
    if not head.is_softmax:
        thresholds = _carried(head, float_probs, probs)
    elif head.precision:  # thresholds that nobody measured stay as they are
        thresholds = carry_thresholds(thresholds, head.labels, float_probs, probs)
    shares = probs.mean(axis=0) if not head.is_softmax else probs.mean(axis=0) / probs.mean(axis=0).sum()
    fitted = msgspec.structs.replace(
        fitted,
        thresholds=thresholds,
        conformal=carry_label_sets(head.conformal, float_probs, probs) if head.is_softmax else None,
        label_shares=dict(zip(head.labels, shares.tolist(), strict=True)),
    )
    scores = scores_of(head.kind, probs, question.majority, values=head.values, thresholds=tag_thresholds(fitted))
    return msgspec.structs.replace(fitted, scores={"validation": scores})


def _temperature(question: TaughtQuestion, before: _Floats, after: _Floats) -> float:
    """The temperature of the form; tags count as two labels each."""
    head, targets = question.head, question.targets
    if len(targets) < MIN_TEXTS:
        return head.temperature
    if not head.is_softmax:
        before, after = (np.stack([one.ravel(), np.zeros(one.size)], axis=1) for one in (before, after))
        targets = np.stack([targets.ravel(), 1 - targets.ravel()], axis=1)
    return correct_temperature(head.temperature, before, after, targets)


def _carried(head: Head, before: _Floats, after: _Floats) -> dict[str, float | None] | None:
    """The thresholds of tags, each moved so that its tag holds for as many texts as before. Args: probabilities [n, C]."""
    if head.thresholds is None:
        return None
    return {
        name: None if least is None else carry_cutoff(least, before[:, head.labels.index(name)], after[:, head.labels.index(name)])
        for name, least in head.thresholds.items()
    }
