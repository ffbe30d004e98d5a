"""Which texts share a batch: texts of like length, in an order that the seed and the epoch alone decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

BATCHES_IN_A_POOL = 50  # sorted by length together: enough for batches of like length, few enough that epochs mix


class LengthBuckets(Sampler[int]):
    """Indices of the texts, so that cutting them into batches gives batches of like length, and these in a random order.

    Nothing outside decides the order, so a run that goes on in the middle of an epoch finds the same batches again.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        """Args: lengths in tokens, one a text; batch_size in texts."""
        self.lengths, self.batch_size, self.seed, self.epoch = torch.tensor(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, from 0; the loop does."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Every index once. Only the last batch may be smaller, so it stays the last."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        batches: list[torch.Tensor] = []
        for pool in order.split(self.batch_size * BATCHES_IN_A_POOL):
            by_length = pool[self.lengths[pool].argsort(descending=True, stable=True)]
            batches.extend(by_length.split(self.batch_size))
        whole = batches[:-1] if len(batches[-1]) < self.batch_size else batches
        for place in torch.randperm(len(whole), generator=generator).tolist():
            yield from whole[place].tolist()
        for batch in batches[len(whole) :]:
            yield from batch.tolist()
