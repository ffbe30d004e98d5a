"""What gives a pool away: lengths, traits and words that one side has more of.

Axes: N texts, W terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control

from potstill.trainer.data.text_features import TRAITS, lengths, trait_table
from potstill.trainer.pool_check.separability import NO_TERM, Reading, word_weights

LEAST_GAP = 0.1  # between the shares of texts with a trait; less is not worth a line
MIN_TEXTS = 5  # a word in fewer texts is no sign of anything
ALARM = 0.05  # a word is shown where at most this share of such words is expected by chance
MAX_WORDS = 12  # of a side


@dataclass(frozen=True)
class Shares:
    """A trait or a word, and the share of texts that have it, 0 to 1."""

    name: str
    pool: float
    target: float


@dataclass(frozen=True)
class Quartiles:
    """Characters that a quarter, half and three quarters of the texts do not exceed."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Telltale:
    """Everything that was found, the strongest first."""

    pool_length: Quartiles
    target_length: Quartiles
    traits: list[Shares]  # those that differ
    pool_words: list[Shares]
    target_words: list[Shares]


def telltale(read: Reading, pool: list[str], target: list[str]) -> Telltale:
    """Look for differences. Args: read, the pool's texts and then the target's."""
    is_pool = np.arange(len(pool) + len(target)) < len(pool)
    pool_words, target_words = _words(read, is_pool)
    return Telltale(_quartiles(pool), _quartiles(target), _traits(pool, target), pool_words, target_words)


def _quartiles(texts: list[str]) -> Quartiles:
    """Of the lengths."""
    return Quartiles(*(float(value) for value in np.quantile(lengths(texts), [0.25, 0.5, 0.75])))


def _traits(pool: list[str], target: list[str]) -> list[Shares]:
    """Traits that one side has clearly more of, the largest gap first."""
    shares = zip(TRAITS, trait_table(pool).mean(axis=0).tolist(), trait_table(target).mean(axis=0).tolist(), strict=True)
    found = [Shares(*row) for row in shares]
    return sorted((row for row in found if abs(row.pool - row.target) >= LEAST_GAP), key=lambda row: -abs(row.pool - row.target))


def _words(read: Reading, is_pool: NDArray[np.bool_]) -> tuple[list[Shares], list[Shares]]:
    """The words that speak most for the pool, and those that speak most for the target.

    A word speaks for a side by its weight, times how much more of it that side has: what it adds to the distance of the two mean
    scores. Longer texts hold more of all words, so a word must also be more frequent among all words of a text than on the other
    side, beyond chance.
    """
    has = (read.counts > 0).astype(np.float64)
    in_pool, in_target = _means(has, is_pool), _means(has, ~is_pool)
    levels, excess = _surprise(read.counts, is_pool)
    common = np.asarray(has.sum(axis=0)).ravel() >= MIN_TEXTS
    chance = np.ones(len(levels))
    if common.any():
        chance[common] = false_discovery_control(levels[common])
    weights = word_weights(read, is_pool)
    adds = weights * (_means(read.words, is_pool) - _means(read.words, ~is_pool))
    sides = []
    for sign in (1, -1):
        shown = common & (chance <= ALARM) & (sign * weights > 0) & (sign * excess > 0)
        ranked = [i for i in np.argsort(-adds, kind="stable") if shown[i] and read.terms[i] != NO_TERM]
        sides.append([Shares(read.terms[i], float(in_pool[i]), float(in_target[i])) for i in ranked[:MAX_WORDS]])
    return sides[0], sides[1]


def _surprise(counts: Any, is_pool: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(p-values, by how much a term occurs more often in the pool than expected), each float [W].

    Of a term that stands K times in all, K s are expected in a pool with the share s of all terms, and the exact binomial test says
    how surprising another number is, were occurrences spread by chance. Those of most words are not, they come together in one
    text: the counts are divided by the dispersion of the texts' counts around what their lengths let expect.
    """
    sizes = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()  # [N]
    share = float(sizes[is_pool].sum() / sizes.sum())
    total = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()  # [W]
    in_pool = np.asarray(counts[is_pool].sum(axis=0), dtype=np.float64).ravel()
    rate = total / sizes.sum()
    squares = np.asarray(counts.multiply(counts).sum(axis=0)).ravel()
    spread = squares - 2 * rate * (counts.T @ sizes) + rate**2 * (sizes**2).sum()
    dispersion = np.maximum(spread / total, 1)
    trials, hits = np.round(total / dispersion), np.round(in_pool / dispersion)
    tail = np.minimum(binom.sf(hits - 1, trials, share), binom.cdf(hits, trials, share))
    return np.minimum(2 * tail, 1), in_pool - share * total


def _means(matrix: Any, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float [W]: column means over some rows."""
    means: NDArray[np.float64] = np.asarray(matrix[rows].sum(axis=0), dtype=np.float64).ravel() / rows.sum()
    return means
