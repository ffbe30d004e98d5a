"""What a student is asked to match, and how the distance is measured.

Axes: B texts in a batch, C classes. An objective is one function from a soft label to its target distribution and one loss over
logits and targets; a new objective is an entry of `OBJECTIVES`, and a loss function if none here fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel

MIN_PROB = 1e-12  # keeps the logarithm of a label that cannot be finite


@dataclass(frozen=True)
class Objective:
    """A target distribution for each soft label, and the loss that compares a student's logits with it."""

    target: Callable[[SoftLabel, list[str]], list[float]]  # (soft label, labels in output order) -> [C]
    loss: Callable[[Tensor, Tensor, float], Tensor]  # (logits [B, C], targets [B, C], distillation temperature) -> [B]


def majority_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """1 for the majority label and 0 for every other, [C]."""
    return [float(name == row.majority) for name in labels]


def distribution_target(row: SoftLabel, labels: list[str]) -> list[float]:
    """The soft label's probabilities in output order, [C]; they sum to 1."""
    return [row.probs[name] for name in labels]


def smoothed(target: list[float], share: float) -> list[float]:
    """The target with a share of it, 0 to 1, spread evenly over all labels, [C]. Source: Szegedy et al. 2015, arXiv:1512.00567."""
    return [(1 - share) * p + share / len(target) for p in target]


def certainty(row: SoftLabel, n_labels: int) -> float:
    """How far a soft label is from saying nothing, 0 to 1: one minus its entropy over that of even shares."""
    return min(1.0, max(0.0, 1 - row.entropy / math.log(n_labels)))


def cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """The cross-entropy of softmax(logits) against the targets, [B], in nats.

    With one-hot targets this is `cls` of arXiv:2212.11311, with distributions `soft_ce`.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1; temperature plays no part.
    """
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(dim=-1)


def squared_error(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """The mean over classes of the squared difference between softmax(logits) and the targets, [B], 0 to 1.

    This is `reg` of arXiv:2212.11311: the Brier score over C.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1; temperature plays no part.
    """
    return (torch.softmax(logits, dim=-1) - targets).square().mean(dim=-1)


def softened_divergence(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of the student from the targets, both flattened by the temperature, times its square, [B].

    The square keeps the gradients as large as those of hard targets, whatever the temperature.

    Args:
        logits: float [B, C].
        targets: float [B, C], rows sum to 1.
        temperature: above 0; 1 gives the gradients of `soft_ce`, larger tells more of the labels that are unlikely.
    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
    """
    flat = torch.softmax(targets.clamp_min(MIN_PROB).log() / temperature, dim=-1)
    log_student = functional.log_softmax(logits / temperature, dim=-1)
    return temperature**2 * (flat * (flat.log() - log_student)).sum(dim=-1)


OBJECTIVES: dict[str, Objective] = {
    "cls": Objective(majority_target, cross_entropy),
    "reg": Objective(distribution_target, squared_error),
    "soft_ce": Objective(distribution_target, cross_entropy),
    "kl": Objective(distribution_target, softened_divergence),
}


def find_objective(name: str) -> Objective:
    """The objective of that name; raises UserError listing the names."""
    if name not in OBJECTIVES:
        raise UserError(f"loss is {name!r}; allowed: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
