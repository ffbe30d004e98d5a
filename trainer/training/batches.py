"""Which texts share a batch: any, in an order that the seed and the epoch alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler


class Shuffled(Sampler[int]):
    """Indices of the texts in a random order.

    Nothing outside decides the order, so a run that goes on in the middle of an epoch finds the same batches again.
    """

    def __init__(self, n_texts: int, seed: int) -> None:
        """The order of epoch 0."""
        self.n_texts, self.seed, self.epoch = n_texts, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, from 0; the loop does."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of texts."""
        return self.n_texts

    def __iter__(self) -> Iterator[int]:
        """Every index once."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.n_texts, generator=generator).tolist()


def logits_in_parts(model: nn.Module, inputs: Mapping[str, Tensor], part_cost: float) -> Tensor:
    """The model's logits, float [B, C], in the order of the batch.

    Args:
        inputs: int64 [B, T] by name, padded behind; `attention_mask` among them.
        part_cost: see :func:`like_lengths`; infinity reads the batch in one piece.
    """
    found = list(in_parts(inputs, part_cost))
    logits = torch.cat([model(**part).logits for _, part in found])
    return logits[torch.cat([rows for rows, _ in found]).argsort()]


def in_parts(inputs: Mapping[str, Tensor], part_cost: float) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """(rows of the batch, int64 [b]; their inputs without the padding that none of them needs, int64 [b, t]) of each part."""
    device = inputs["attention_mask"].device
    if math.isinf(part_cost):
        yield torch.arange(len(inputs["attention_mask"]), device=device), dict(inputs)
        return
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    for places in like_lengths(lengths, part_cost):
        rows, longest = torch.tensor(places, device=device), max(lengths[place] for place in places)
        yield rows, {name: tensor[rows, :longest] for name, tensor in inputs.items()}


def like_lengths(lengths: Sequence[int], part_cost: float) -> list[list[int]]:
    """Places of the texts in parts, so that all parts together cost least.

    A part costs its longest length times its texts, and `part_cost` on top. Among sorted lengths, the best parts of the first n
    texts are a last part after the best parts of the texts before it, so all are found in n² / 2 steps.

    Args:
        lengths: in tokens, at least one text.
        part_cost: in tokens; what a pass of its own takes however little it reads.
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
