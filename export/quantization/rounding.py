"""Rounding weights to int8: as fine as every CPU allows, each rounding error made up for by the weights that are rounded later.

Range. On x86 without VNNI the products of two neighbouring channels are added in 16 bits, which hold 255 * 128 and little more. The
usual remedy gives every weight 7 bits, so that two of the largest still fit. Here every weight has 8 bits and neighbours of one
sign share the room: most never need it, and a column whose neighbours do takes larger steps, or loses a little of both.
Processors whose sums have 32 bits need no such limit (`FULL_RANGE`).

Rounding. To the nearest step is best for each weight alone. What counts is the product with the activations, whose channels go
together: what one weight loses another can give back.

Source of the rounding: Frantar et al. 2022, GPTQ, arXiv:2210.17323, algorithm 1, with the channels that matter most rounded
first, as in the authors' code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

LIMIT = 127  # steps of one weight
PAIR_LIMIT = 128  # steps of channels 2i and 2i + 1 together: 255 times as much fits 16 bits with a sign
FULL_RANGE = 2 * LIMIT + 2  # a limit of pairs that none meets
MIN_MAGNITUDE = 1e-5  # keeps the step of a dead column finite
DAMPING = 0.01  # of the mean square of a channel, added to each; keeps the inverse stable on few texts, as in the source
N_STEPS = 6  # step sizes that compete for a column
_BLOCK = 128  # rows whose errors are passed on at once


def safe_steps(weights: Float32Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """The least step of each output channel, float [N], under which no weight or pair of [H, N] is cut."""
    together = np.abs(_pairs(weights).sum(axis=1)).max(axis=0)
    return np.asarray(np.maximum(_least(weights), together / pair_limit))


def best_steps(weights: Float32Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """The step of each output channel, float [N], that loses least: a finer one cuts some pairs."""
    safe, least = safe_steps(weights, pair_limit), _least(weights)
    best, lost = safe, np.full(len(safe), np.inf)
    for share in np.linspace(1, 0, N_STEPS):
        step = least + share * (safe - least)
        error = np.square(round_nearest(weights, step, pair_limit) - weights).sum(axis=0)
        best, lost = np.where(error < lost, step, best), np.minimum(error, lost)
    return np.asarray(best)


def round_nearest(weights: Float32Array, step: Float64Array, pair_limit: int = PAIR_LIMIT) -> Float64Array:
    """The nearest whole multiples of the steps, float [H, N], once pairs that have no room are cut."""
    return np.asarray(np.clip(np.rint(_fitted(weights, step, pair_limit)), -LIMIT, LIMIT) * step)


def round_compensated(weights: Float32Array, gram: Float64Array, step: Float64Array, pair_limit: int = PAIR_LIMIT) -> Float32Array:
    """Whole multiples of the steps that are close to the weights in the product rather than one by one.

    Args:
        weights: float [H, N].
        gram: float [H, H], the sum over calibration tokens of the outer product of their activations.
        step: float [N], above 0.
        pair_limit: steps of channels 2i and 2i + 1 together.
    Returns:
        float [H, N]; the nearest multiples if the activations say nothing. Both limits hold.
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
            beside = out[channel ^ 1]  # 0 while it is not rounded
            room = np.maximum(-LIMIT, -pair_limit - beside), np.minimum(LIMIT, pair_limit - beside)
            out[channel] = np.clip(np.rint(rest[row]), *room)
            errors[row - start] = (rest[row] - out[channel]) / upper[row, row]
            rest[row + 1 : end] -= np.outer(upper[row, row + 1 : end], errors[row - start])
        rest[end:] -= upper[start:end, end:].T @ errors
    return np.asarray(out[: len(rest)] * step, dtype=np.float32)


def _least(weights: Float32Array) -> Float64Array:
    """The step under which the largest weight of a column just fits."""
    return np.asarray(np.maximum(np.abs(weights).max(axis=0), MIN_MAGNITUDE) / LIMIT, dtype=np.float64)


def _pairs(weights: Float32Array | Float64Array) -> Float64Array:
    """Channels 2i and 2i + 1 side by side, float [H / 2, 2, N]; an odd last channel stands beside zeros."""
    odd = len(weights) % 2
    return np.pad(weights.astype(np.float64), ((0, odd), (0, 0))).reshape(-1, 2, weights.shape[1])


def _fitted(weights: Float32Array, step: Float64Array, pair_limit: int) -> Float64Array:
    """The weights in steps, unrounded, float [H, N]; of pairs that go beyond their limit both lose half of what is too much."""
    pairs = _pairs(weights) / step
    together = pairs.sum(axis=1, keepdims=True)
    pairs -= (together - np.clip(together, 1 - pair_limit, pair_limit - 1)) / 2  # one step less: both may be rounded away from 0
    return np.asarray(pairs.reshape(-1, weights.shape[1])[: len(weights)])


def _inverse_factor(gram: Float64Array) -> Float64Array | None:
    """The upper Cholesky factor of the inverse; None where there is no inverse."""
    damped = gram.astype(np.float64)
    mean_square = float(np.diag(damped).mean())
    if not 0 < mean_square < np.inf:
        return None
    damped[np.diag_indices_from(damped)] += DAMPING * mean_square
    try:
        return np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        return None
