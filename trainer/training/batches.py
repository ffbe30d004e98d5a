"""The order of texts in an epoch, and batches in parts of similar length, which need less padding.

Axes: B texts in a batch, b in a part, T tokens in a batch, t in a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler


class Shuffled(Sampler[int]):
    """Indices of the texts in random order.

    Seed and epoch alone decide the order, so a run that resumes in the middle of an epoch gets the same batches.
    """

    def __init__(self, n_texts: int, seed: int) -> None:
        """Start with the order of epoch 0."""
        self.n_texts, self.seed, self.epoch = n_texts, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0; the loop calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of texts."""
        return self.n_texts

    def __iter__(self) -> Iterator[int]:
        """Iterate over every index once."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.n_texts, generator=generator).tolist()


def logits_in_parts(model: nn.Module, inputs: Mapping[str, Tensor], part_cost: float) -> Tensor:
    """Logits of the batch, float [B, C], computed part by part and returned in the order of the batch.

    Args:
        inputs: int64 [B, T] by name, padded at the end; `attention_mask` among them.
        part_cost: see :func:`like_lengths`; infinity keeps the batch in one part.
    """
    found = list(in_parts(inputs, part_cost))
    logits = torch.cat([model(**part).logits for _, part in found])
    return logits[torch.cat([rows for rows, _ in found]).argsort()]


def in_parts(inputs: Mapping[str, Tensor], part_cost: float) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Cut a batch into parts of similar length.

    Args:
        inputs: int64 [B, T] by name, padded at the end.
        part_cost: in tokens; see :func:`like_lengths`.
    Yields:
        (the part's rows in the batch, int64 [b]; its inputs without needless padding, int64 [b, t] by name).
    """
    device = inputs["attention_mask"].device
    if math.isinf(part_cost):
        yield torch.arange(len(inputs["attention_mask"]), device=device), dict(inputs)
        return
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    for places in like_lengths(lengths, part_cost):
        rows, longest = torch.tensor(places, device=device), max(lengths[place] for place in places)
        yield rows, {name: tensor[rows, :longest] for name, tensor in inputs.items()}


def like_lengths(lengths: Sequence[int], part_cost: float) -> list[list[int]]:
    """Group texts by length into the parts with the lowest total cost.

    A part costs its longest length times its number of texts, plus `part_cost`. With sorted lengths, the best parts of the first n
    texts are one last part after the best parts of the texts before it, so dynamic programming needs n² / 2 steps.

    Args:
        lengths: in tokens, at least one text.
        part_cost: the fixed cost of a pass through the model, in tokens.
    Returns:
        the texts' indices, one list a part.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    cost, begin = [0.0], [0]  # of the first n texts; where their last part begins
    for n, last in enumerate(order, 1):
        options = [cost[start] + (n - start) * lengths[last] + part_cost for start in range(n)]
        cost.append(min(options))
        begin.append(options.index(cost[-1]))
    parts, n = [], len(order)
    while n:
        parts.append(order[begin[n] : n])
        n = begin[n]
    return parts
