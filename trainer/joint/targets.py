"""What a student of several questions is trained to answer: a row of numbers for each text.

Its targets stand side by side, question by question, in the order of the outputs: a distribution over the labels, and for tags
the probability of each. Behind them the weight of each question in the loss, 0 where the text does not answer it.
Axes: N texts, C outputs, Q questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.questions.question import YES_NO, Question
from potstill.contract.questions.soft_answers import SoftAnswers, rows_of
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import places_of
from potstill.trainer.data.targets import certainty, mixed_target, smoothed
from potstill.trainer.training.losses import find_objective

MAX_RARE = 4.0  # times that an answer to a question of few answers counts at most; beyond, single texts would steer the network
MIN_WEIGHT = 1e-6  # of an answer; 0 is for none


def output_ranges(questions: Sequence[Question]) -> list[slice]:
    """The outputs of each question, as slices of the logits."""
    found, start = [], 0
    for question in questions:
        found.append(slice(start, start + len(question.label_names)))
        start += len(question.label_names)
    return found


def joint_targets(
    rows: Sequence[SoftAnswers],
    questions: Sequence[Question],
    config: TrainConfig,
    ensemble: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """float64 [N, C + Q]: targets and weights.

    The weights of a question's answers have the mean 1 before they are balanced, see :func:`balance`.

    Args:
        ensemble: float [N, C], mean answers of several students, which are mixed into the targets; None: there are none.
    Raises:
        UserError: if all answers to a question are even shares, so that by certainty each has weight 0.
    """
    ranges = output_ranges(questions)
    n_outputs = ranges[-1].stop
    found = np.zeros((len(rows), n_outputs + len(questions)))
    for q, (question, place) in enumerate(zip(questions, ranges, strict=True)):
        answered = places_of(rows, question)
        if not len(answered):
            continue
        own = None if ensemble is None else ensemble[answered, place]
        targets, weights = _of_question(rows, question, config, own)
        if not weights.any():
            problem = f"all {len(weights)} soft labels of {question.name} are even shares, so every weight is 0"
            raise UserError(f"{problem}; use --weighting even, or label again")
        found[answered, place] = targets
        found[answered, n_outputs + q] = np.maximum(weights / weights.mean(), MIN_WEIGHT) * balance(len(answered), len(rows))
    return found


def balance(n_answers: int, n_texts: int) -> float:
    """How often an answer to a question counts: so that all questions weigh the same over the texts, up to `MAX_RARE` times."""
    return min(MAX_RARE, n_texts / n_answers)


def _of_question(
    rows: Sequence[SoftAnswers], question: Question, config: TrainConfig, ensemble: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(targets float64 [n, labels], weights float64 [n]) of the n rows that answer a question. Args: ensemble, [n, labels]."""
    if question.kind != "tags":
        return _of_labels(rows_of(rows, question), question.label_names, config, ensemble)
    parts = []
    for t, tag in enumerate(question.label_names):
        own = None if ensemble is None else np.stack([ensemble[:, t], 1 - ensemble[:, t]], axis=1)
        parts.append(_of_labels(rows_of(rows, question, tag), list(YES_NO), config, own))
    return np.stack([targets[:, 0] for targets, _ in parts], axis=1), np.mean([weights for _, weights in parts], axis=0)


def _of_labels(
    labels: Sequence[SoftLabel], names: list[str], config: TrainConfig, ensemble: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(targets float64 [n, C], weights float64 [n]) as a student of one question has them. Args: ensemble, [n, C]."""
    objective = find_objective(config.loss)
    targets = [objective.target(row, names) for row in labels]
    if ensemble is not None:
        targets = [mixed_target(own, mean, config.teacher_weight) for own, mean in zip(targets, ensemble, strict=True)]
    weights = [certainty(row, len(names)) if config.weigh_by == "certainty" else 1.0 for row in labels]
    return np.array([smoothed(target, config.label_smoothing) for target in targets]), np.array(weights)
