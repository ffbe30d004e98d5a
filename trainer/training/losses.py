"""Training objectives: the target of a soft label, and the loss between a student's logits and the target.

A new objective is an entry of `OBJECTIVES`, and a loss function if none here fits. Axes: B texts in a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.targets import distribution_target, majority_target

MIN_PROB = 1e-12  # keeps the logarithm of a probability of 0 finite


@dataclass(frozen=True)
class Objective:
    """A target distribution for each soft label, and a loss that compares a student's logits with it."""

    target: Callable[[SoftLabel, list[str]], list[float]]  # (soft label, labels in output order) -> [C]
    loss: Callable[[Tensor, Tensor, float], Tensor]  # (logits [B, C], targets [B, C], distillation temperature) -> [B]


def cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of softmax(logits) against the targets, [B], in nats.

    With one-hot targets this is `cls` of arXiv:2212.11311, with distributions `soft_ce`.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1; temperature is not used.
    """
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(dim=-1)


def squared_error(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Squared difference between softmax(logits) and the targets, averaged over classes, [B], 0 to 1.

    This is `reg` of arXiv:2212.11311: the Brier score over C.

    Args: logits float [B, C]; targets float [B, C], rows sum to 1; temperature is not used.
    """
    return (torch.softmax(logits, dim=-1) - targets).square().mean(dim=-1)


def softened_divergence(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence at a temperature, times its square, [B], in nats.

    Student and targets are both flattened. The square keeps the gradients as large as those of hard targets at any temperature.

    Args:
        logits: float [B, C].
        targets: float [B, C], rows sum to 1.
        temperature: above 0; 1 gives the gradients of `soft_ce`, larger gives more weight to unlikely labels.
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
    """Look an objective up by name; raises UserError listing the names."""
    if name not in OBJECTIVES:
        raise UserError(f"loss is {name!r}; allowed: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
