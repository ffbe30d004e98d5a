"""What a student is asked to match, and how the distance is measured.

Axes: B texts in a batch, C classes. An objective is one function from a soft label to its target distribution and one loss over
logits and targets; a new objective is an entry of `OBJECTIVES`, and a loss function if none here fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from contract.errors import UserError
from contract.soft_label import SoftLabel


@dataclass(frozen=True)
class Objective:
    """A target distribution for each soft label, and the loss that compares a student's logits with it."""

    target: Callable[[SoftLabel, list[str]], list[float]]  # (soft label, labels in output order) -> [C]
    loss: Callable[[Tensor, Tensor], Tensor]  # (logits [B, C], targets [B, C]) -> scalar


def majority_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """1 for the majority label and 0 for every other, [C]."""
    return [float(name == row.majority) for name in labels]


def distribution_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """The soft label's probabilities in output order, [C]; they sum to 1."""
    return [row.probs[name] for name in labels]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of the cross-entropy of softmax(logits) against the targets, in nats.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1. With one-hot targets this is `cls` of arXiv:2212.11311.
    """
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over batch and classes of the squared difference between softmax(logits) and the targets, 0 to 1.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1. This is `reg` of arXiv:2212.11311: the Brier score over C.
    """
    return (torch.softmax(logits, dim=-1) - targets).square().mean()


OBJECTIVES: dict[str, Objective] = {
    "cls": Objective(majority_target, cross_entropy),
    "reg": Objective(distribution_target, squared_error),
}


def find_objective(name: str) -> Objective:
    """The objective of that name; raises UserError listing the names."""
    if name not in OBJECTIVES:
        raise UserError(f"loss is {name!r}; allowed: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
