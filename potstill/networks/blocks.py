"""Soft subwords: at every byte, a mix of the blocks of 1 to 4 bytes around it, chosen by a learned score; then fewer positions.

Axes: B texts in a batch, T bytes, L bytes once filled up to whole blocks, S = L / stride positions, H width.
Source: Tay et al. 2021, Charformer, arXiv:2106.12672, section 2.1 (gradient-based subword tokenization), without its optional
calibration of scores across positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SIZES = (1, 2, 3, 4)  # bytes of the candidate blocks
KERNEL = 5  # bytes that are mixed before blocks are cut, so that a block knows its place in a word


class SoftBlocks(nn.Module):
    """Bytes in, a quarter as many positions out; nothing depends on what is masked."""

    def __init__(self, width: int, stride: int) -> None:
        """Args: stride, bytes that become one position; it divides the least common multiple of the block sizes."""
        super().__init__()
        self.stride, self.period = stride, math.lcm(*SIZES, stride)
        self.near = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.across = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(float [B, S, H], mask float [B, S]) of bytes float [B, T, H] and their mask, float [B, T]."""
        x = x * mask.unsqueeze(-1)
        x = x + self.across(torch.nn.functional.gelu(self.near(x.transpose(1, 2)).transpose(1, 2)))
        x, mask = self._whole(x * mask.unsqueeze(-1)), self._whole(mask.unsqueeze(-1))  # [B, L, H], [B, L, 1]
        blocks = torch.stack([_spread(_mean(x, mask, size), size) for size in SIZES], dim=2)  # [B, L, sizes, H]
        mixed = (torch.softmax(self.score(blocks), dim=2) * blocks).sum(dim=2)  # [B, L, H]
        return _mean(mixed * mask, mask, self.stride), _any(mask, self.stride)

    def _whole(self, x: Tensor) -> Tensor:
        """Zeros behind [B, T, *] up to the next multiple of the period, by operations that a traced graph can repeat."""
        fill = torch.zeros_like(x[:, :1]).expand(-1, self.period, -1)
        length = (x.shape[1] + self.period - 1) // self.period * self.period
        return torch.cat([x, fill], dim=1)[:, :length]


def _cut(x: Tensor, size: int) -> Tensor:
    """[B, L, H] as blocks [B, L / size, size, H]."""
    return x.reshape(x.shape[0], -1, size, x.shape[2])


def _mean(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """The mean of the real bytes of each block, [B, L / size, H]; masked bytes are zeros already."""
    return _cut(x, size).sum(dim=2) / _cut(mask, size).sum(dim=2).clamp_min(1)


def _spread(blocks: Tensor, size: int) -> Tensor:
    """Each block repeated at each of its bytes, [B, L, H]."""
    return blocks.unsqueeze(2).expand(-1, -1, size, -1).reshape(blocks.shape[0], -1, blocks.shape[2])


def _any(mask: Tensor, size: int) -> Tensor:
    """1 where a position holds at least one real byte, [B, L / size]."""
    return _cut(mask, size).amax(dim=2).squeeze(-1)
