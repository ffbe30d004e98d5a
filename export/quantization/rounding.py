"""Round weights to int8 so that sums overflow on no CPU, and so that later weights compensate for earlier rounding errors.

Range. x86 without VNNI adds the products of two neighbouring channels in 16 bits, which hold little more than 255 * 128. The
usual remedy gives every weight 7 bits, so that two of the largest still fit. Here every weight has 8 bits, and two neighbours
together are limited (`PAIR_LIMIT`). Most pairs are below the limit anyway; where one is not, its column takes a larger step, or
both weights are clipped a little. Processors with 32-bit sums need no limit (`NO_PAIR_LIMIT`).

Rounding. The nearest step is best for a single weight, but not for the product with activations whose channels are correlated:
there one weight can compensate for the error of another.

Source of the rounding: Frantar et al. 2022, GPTQ, arXiv:2210.17323, algorithm 1, with the channels of the largest activations
rounded first, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

LIMIT = 127  # largest weight, in steps
PAIR_LIMIT = 128  # largest sum of channels 2i and 2i + 1, in steps: times 255 it still fits a signed 16-bit number
NO_PAIR_LIMIT = 2 * LIMIT + 2  # above the sum of any two weights
MIN_MAGNITUDE = 1e-5  # keeps the step of a dead column finite
DAMPING = 0.01  # share of the mean square, added to the diagonal; keeps the inverse stable on few texts, as in the source
N_STEPS = 6  # candidate step sizes per column
_BLOCK = 128  # rows after which errors are passed on to the rest

# CPU flags, in the words of /proc/cpuinfo, of processors that sum int8 products in 32 bits; other x86 processors add pairs in 16.
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
ARM_FLAGS = frozenset({"asimddp", "i8mm"})  # ARM's equivalents


def has_int32_sums(flags: Collection[str]) -> bool:
    """True if products of full-range weights cannot overflow on a processor with these flags (`contract/system/machine.py`)."""
    return not (VNNI_FLAGS | ARM_FLAGS).isdisjoint(flags)


def safe_steps(weights: Float32Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """The smallest step of each output channel, float [N], at which no weight or pair of weights [H, N] is clipped."""
    together = np.abs(_pairs(weights).sum(axis=1)).max(axis=0)
    return np.asarray(np.maximum(_least(weights), together / pair_limit))


def best_steps(weights: Float32Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """The step of each output channel, float [N], with the least squared error; it may clip some pairs of weights [H, N]."""
    safe, least = safe_steps(weights, pair_limit), _least(weights)
    best, lost = safe, np.full(len(safe), np.inf)
    for share in np.linspace(1, 0, N_STEPS):
        step = least + share * (safe - least)
        error = np.square(round_nearest(weights, step, pair_limit) - weights).sum(axis=0)
        best, lost = np.where(error < lost, step, best), np.minimum(error, lost)
    return np.asarray(best)


def round_nearest(weights: Float32Array, step: Float64Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """Round each weight to the nearest multiple of its column's step, float [H, N], after clipping pairs over the limit."""
    return np.asarray(np.clip(np.rint(_fitted(weights, step, pair_limit)), -LIMIT, LIMIT) * step)


def round_compensated(weights: Float32Array, gram: Float64Array, step: Float64Array, pair_limit: int = PAIR_LIMIT) -> Float32Array:
    """Round weights to multiples of the steps so that the product with the activations changes least.

    Args:
        weights: float [H, N].
        gram: float [H, H], the sum over calibration tokens of the outer product of their activations.
        step: float [N], above 0.
        pair_limit: largest sum of channels 2i and 2i + 1, in steps.
    Returns:
        float [H, N], within both limits; the nearest multiples if the gram matrix cannot be inverted.
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    upper = _inverse_factor(gram[np.ix_(order, order)])
    if upper is None:
        return np.asarray(round_nearest(weights, step, pair_limit), dtype=np.float32)
    rest = _fitted(weights, step, pair_limit)[order]  # in steps
    out = np.zeros((len(rest) + len(rest) % 2, rest.shape[1]))  # in steps, in the order of the channels
    for start in range(0, len(rest), _BLOCK):
        end = min(start + _BLOCK, len(rest))
        errors = np.empty_like(rest[start:end])
        for row in range(start, end):
            channel = order[row]
            beside = out[channel ^ 1]  # 0 until it is rounded
            room = np.maximum(-LIMIT, -pair_limit - beside), np.minimum(LIMIT, pair_limit - beside)
            out[channel] = np.clip(np.rint(rest[row]), *room)
            errors[row - start] = (rest[row] - out[channel]) / upper[row, row]
            rest[row + 1 : end] -= np.outer(upper[row, row + 1 : end], errors[row - start])
        rest[end:] -= upper[start:end, end:].T @ errors
    return np.asarray(out[: len(rest)] * step, dtype=np.float32)


def _least(weights: Float32Array) -> Float64Array:
    """The step at which the largest weight of a column is exactly `LIMIT` steps."""
    return np.asarray(np.maximum(np.abs(weights).max(axis=0), MIN_MAGNITUDE) / LIMIT, dtype=np.float64)


def _pairs(weights: Float32Array | Float64Array) -> Float64Array:
    """Channels 2i and 2i + 1 as pairs, float [H / 2, 2, N]; an odd last channel is paired with zeros."""
    odd = len(weights) % 2
    return np.pad(weights.astype(np.float64), ((0, odd), (0, 0))).reshape(-1, 2, weights.shape[1])


def _fitted(weights: Float32Array, step: Float64Array, pair_limit: int) -> Float64Array:
    """The weights in steps, unrounded, float [H, N]; in a pair over the limit both give up half of the excess."""
    pairs = _pairs(weights) / step
    together = pairs.sum(axis=1, keepdims=True)
    pairs -= (together - np.clip(together, 1 - pair_limit, pair_limit - 1)) / 2  # one step less, because both may round away from 0
    return np.asarray(pairs.reshape(-1, weights.shape[1])[: len(weights)])


def _inverse_factor(gram: Float64Array) -> Float64Array | None:
    """The upper Cholesky factor of the damped inverse; None if there is no inverse."""
    damped = gram.astype(np.float64)
    mean_square = float(np.diag(damped).mean())
    if not 0 < mean_square < np.inf:
        return None
    damped[np.diag_indices_from(damped)] += DAMPING * mean_square
    try:
        return np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        return None
