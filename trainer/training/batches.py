"""Which texts share a batch: any, in an order that the seed and the epoch alone decide."""

from __future__ import annotations

from collections.abc import Iterator

import torch
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
