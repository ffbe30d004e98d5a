"""The loss of a student of several questions: of each question by its kind, divided by what an ignorant student would pay.

Axes: B texts in a batch, N texts, C outputs, Q questions, T tags, K levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor
from torch.nn import functional

from potstill.contract.questions.question import Question
from potstill.trainer.calibration.temperature import minimize_nll
from potstill.trainer.config import TrainConfig
from potstill.trainer.joint.targets import output_ranges
from potstill.trainer.training.fit import Goal
from potstill.trainer.training.losses import find_objective

ORDINAL_WEIGHT = 1.0  # of the earth mover's distance beside the loss of a degree; chosen in benchmarks/questions/joint.py
MIN_SCALE = 0.1  # of a question's loss, as a share of that of even shares: what hardly varies must not drown the others


@dataclass(frozen=True)
class OwnLoss:
    """A question's outputs and what its loss is divided by."""

    question: Question
    outputs: slice
    scale: float  # nats, above 0


def joint_goal(questions: Sequence[Question], training: NDArray[np.float64], config: TrainConfig) -> Goal:
    """What a student of these questions is trained for.

    A question's loss is divided by the cross-entropy of its mean answer, which a student pays that has learned nothing else. So
    questions of 77 labels and of two, of rare answers and of even ones, pull alike. T tags are as many decisions, and count
    sqrt(T) times: once, the network would hardly learn them beside the others; T times, they would drown the others.

    Args:
        training: float [N, C + Q], targets and weights as `joint_targets` makes them.
    """
    parts = [
        OwnLoss(question, outputs, _scale(question, training[training[:, q - len(questions)] > 0][:, outputs]))
        for q, (question, outputs) in enumerate(zip(questions, output_ranges(questions), strict=True))
    ]
    objective, temperature = find_objective(config.loss), config.distill_temperature

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        """[B]: mean over the questions. Args: logits [B, C], targets [B, C + Q]."""
        total = torch.zeros(len(logits), device=logits.device)
        for q, part in enumerate(parts):
            found, wanted = logits[:, part.outputs], targets[:, part.outputs]
            if part.question.kind == "tags":
                each = objective.loss(as_pairs(found), torch.stack([wanted, 1 - wanted], dim=-1), temperature)  # [B, T]
                own = each.sum(dim=-1) / math.sqrt(each.shape[1])
            else:
                own = objective.loss(found, wanted, temperature)
            own = own / part.scale
            if part.question.kind == "degree":
                own = own + ORDINAL_WEIGHT * squared_earth_movers(found, wanted)
            total = total + targets[:, q - len(parts)] * own
        return total / len(parts)

    def held_out_loss(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
        """Mean over the questions of the cross-entropy at the best temperature, over that of the mean answer."""
        found = []
        for q, part in enumerate(parts):
            answered = targets[:, q - len(parts)] > 0
            if answered.any():
                own = flat_pairs(part.question, logits[answered, part.outputs], targets[answered, part.outputs])
                found.append(minimize_nll(*own)[1] / part.scale)
        return float(np.mean(found))

    return Goal(loss, held_out_loss, len(parts))


def squared_earth_movers(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared differences of the cumulative distributions over the levels, their mean, [B], 0 to 1.

    Args: logits float [B, K]; targets float [B, K], rows sum to 1.
    Source: Hou, Yu, Samaras 2016, arXiv:1611.05916, equation 5.
    """
    apart = torch.softmax(logits, dim=-1).cumsum(dim=-1) - targets.cumsum(dim=-1)
    return apart[:, :-1].square().mean(dim=-1)


def as_pairs(logits: Tensor) -> Tensor:
    """The logits of tags as those of two labels each, [..., T, 2]: softmax over them is the sigmoid. Args: float [..., T]."""
    return functional.pad(logits.unsqueeze(-1), (0, 1))


def flat_pairs(
    question: Question, logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(logits, targets) as a softmax takes them: unchanged [N, C], but of tags each as two labels, [N * T, 2]."""
    if question.kind != "tags":
        return logits, targets
    flat, wanted = logits.ravel(), targets.ravel()
    return np.stack([flat, np.zeros_like(flat)], axis=1), np.stack([wanted, 1 - wanted], axis=1)


def _scale(question: Question, targets: NDArray[np.float64]) -> float:
    """Nats that the mean answer costs a text, and of tags a tag. Args: float [n, labels], at least one answer."""
    mean = targets.mean(axis=0)
    if question.kind == "tags":
        return max(float(np.mean(entr(mean) + entr(1 - mean))), MIN_SCALE * math.log(2))
    return max(float(entr(mean).sum()), MIN_SCALE * math.log(len(mean)))
