"""Calibrate a student of several questions on its held-out texts, each question by its kind, and score it there.

Choice, yesno and degree: vector scaling, temperature, thresholds and label sets, as for a student of one question. Tags: a
temperature, a bias for each tag where it pays, and the probability from which each holds. Axes: n texts that answer a question,
C its labels, T tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.head import HOLDS, Head
from potstill.contract.questions.kind_scores import MAIN, scores_of
from potstill.contract.questions.probabilities import head_probs
from potstill.contract.questions.question import Question
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.trainer.calibration.held_out import N_PROOF, mean_shares
from potstill.trainer.calibration.label_sets import LabelSets, fit_label_sets
from potstill.trainer.calibration.temperature import MIN_TEXTS, Temperature, apply_temperature, match_teacher_entropy
from potstill.trainer.calibration.thresholds import Thresholds, fit_thresholds
from potstill.trainer.calibration.vector_scaling import VectorScaling, fit_vector_scaling, fold_into_last_layer
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import AnsweredRows, distributions, majorities, places_of
from potstill.trainer.joint.losses import flat_pairs
from potstill.trainer.joint.tags import fit_tag_biases, fit_tag_thresholds
from potstill.trainer.joint.targets import output_ranges
from potstill.trainer.students.encoder import Encoder

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QuestionCalibration:
    """The calibration of one question."""

    head: Head
    temperature: Temperature
    vector: VectorScaling | None = None  # None: tags
    thresholds: Thresholds | None = None
    sets: LabelSets | None = None

    def as_text(self) -> str:
        """The question's scores, and lines on its calibration."""
        head = self.head
        scores = head.scores["validation"]
        names = dict.fromkeys([MAIN[head.kind], *(["accuracy"] if head.is_softmax else ["map"])])
        lines = [
            f"{head.name} ({head.kind}): trained on {head.n_train} answers; agrees with the teacher on {head.n_validation}: "
            + ", ".join(f"{name} {scores[name].as_text()}" for name in names if name in scores),
            f"  temperature {self.temperature.as_text()}" + (f"; vector scaling {self.vector.as_text()}" if self.vector else ""),
        ]
        if not head.is_softmax:
            held = head.thresholds or {}
            places = ", ".join(f"{name} {held.get(name, HOLDS):.2f}" for name in head.labels)
            lines.append(f"  a tag holds from: {places}; biases {'used' if head.bias else 'not used'}")
        parts = [self.thresholds, self.sets]
        return "\n".join([*lines, *(_indented(part.as_text()) for part in parts if part is not None)])


def calibrate_questions(
    encoder: Encoder, questions: Sequence[Question], rows: AnsweredRows, config: TrainConfig
) -> list[QuestionCalibration]:
    """Calibrate the student, question by question.

    Args:
        encoder: trained; vector scaling, where it pays, goes into its last layer.
        rows: those held out calibrate it; those trained on are counted.
        config: holds the wanted precision and coverage, for questions with one answer.
    Raises:
        UserError: if there are too few texts for the wanted precision or coverage.
    """
    validation, ranges = rows.validation, output_ranges(questions)
    features = encoder.encode([(row.text, row.target) for row in validation])
    logits = encoder.logits(features).astype(np.float64)
    scalings = [
        _scaling(question, logits[places_of(validation, question), outputs], validation)
        for question, outputs in zip(questions, ranges, strict=True)
    ]
    used = [one for one in scalings if one is not None and not one.reason]
    if used:
        reason = fold_into_last_layer(encoder, _side_by_side(scalings, questions), features[:N_PROOF])
        scalings = [one if one is None or one.reason else replace(one, reason=reason) for one in scalings]
        logits = encoder.logits(features).astype(np.float64)
    found = []
    for question, outputs, scaling in zip(questions, ranges, scalings, strict=True):
        n_train = len(places_of(rows.training, question))
        own = logits[places_of(validation, question), outputs]
        made = _tags(question, own, validation) if scaling is None else _labels(question, own, validation, scaling, config)
        head = msgspec.structs.replace(made.head, n_train=n_train, n_validation=len(own))
        found.append(replace(made, head=head))
    return found


def _scaling(question: Question, logits: _Floats, validation: Sequence[SoftAnswers]) -> VectorScaling | None:
    """Factors and biases of a question with one answer; None for tags. Args: logits float [n, C]."""
    return None if question.kind == "tags" else fit_vector_scaling(logits, distributions(validation, question))


def _labels(
    question: Question, logits: _Floats, validation: Sequence[SoftAnswers], scaling: VectorScaling, config: TrainConfig
) -> QuestionCalibration:
    """The calibration of a question with one answer. Args: logits float [n, C]."""
    names, majority = question.label_names, majorities(validation, question)
    temperature = match_teacher_entropy(logits, distributions(validation, question))
    probs = apply_temperature(logits, temperature.value)
    wanted, coverage = config.precision, config.coverage
    thresholds = None if wanted is None else fit_thresholds(probs, majority, names, wanted, "teacher", config.promise)
    sets = None if coverage is None else fit_label_sets(probs, majority, coverage, "teacher", config.promise)
    values = question.level_values if question.kind == "degree" else None
    head = Head(
        name=question.name,
        kind=question.kind,
        labels=names,
        temperature=temperature.value,
        thresholds=thresholds.by_label if thresholds else None,
        precision=thresholds.precision if thresholds else None,
        conformal=sets.conformal if sets else None,
        label_shares=mean_shares(probs, names),
        values=values,
        scores={"validation": scores_of(question.kind, probs, majority, values=values)},
    )
    return QuestionCalibration(head, temperature, scaling, thresholds, sets)


def _tags(question: Question, logits: _Floats, validation: Sequence[SoftAnswers]) -> QuestionCalibration:
    """The calibration of tags. Args: logits float [n, T]."""
    names, targets = question.label_names, distributions(validation, question)
    temperature = match_teacher_entropy(*flat_pairs(question, logits, targets))
    if len(logits) < MIN_TEXTS:
        reason = f"{len(logits)} validation texts, at least {MIN_TEXTS} are needed"
        temperature = Temperature(1.0, len(logits), temperature.nll_before, temperature.nll_before, reason)
    bias = fit_tag_biases(logits / temperature.value, targets)
    head = Head(name=question.name, kind="tags", labels=names, temperature=temperature.value, bias=bias)
    probs = head_probs(head, logits)
    thresholds = fit_tag_thresholds(probs, targets)
    least = thresholds or [HOLDS] * len(names)
    head = msgspec.structs.replace(
        head,
        thresholds=dict(zip(names, least, strict=True)),
        label_shares=dict(zip(names, probs.mean(axis=0).tolist(), strict=True)),
        scores={"validation": scores_of("tags", probs, majorities(validation, question), thresholds=least)},
    )
    return QuestionCalibration(head, temperature)


def _side_by_side(scalings: Sequence[VectorScaling | None], questions: Sequence[Question]) -> VectorScaling:
    """One scaling of all outputs, which changes those of the questions that use theirs."""
    factors: list[float] = []
    bias: list[float] = []
    for scaling, question in zip(scalings, questions, strict=True):
        n = len(question.label_names)
        is_used = scaling is not None and not scaling.reason
        factors += scaling.factors if scaling is not None and is_used else [1.0] * n
        bias += scaling.bias if scaling is not None and is_used else [0.0] * n
    return VectorScaling(tuple(factors), tuple(bias), 0.0, 0.0)


def _indented(text: str) -> str:
    """Every line two spaces further right."""
    return "\n".join(f"  {line}" for line in text.splitlines())
