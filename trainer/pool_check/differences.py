"""Differences between pool and target texts: lengths, traits, and words that one side has more of.

Axes: N texts, W terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control

from potstill.trainer.data.text_features import TRAITS, lengths, trait_table
from potstill.trainer.pool_check.separability import NO_TERM, TextFeatures, word_weights

LEAST_GAP = 0.1  # smallest difference of a trait's shares that is reported
MIN_TEXTS = 5  # least texts that a reported word occurs in
MAX_FDR = 0.05  # false discovery rate up to which a word is reported
MAX_WORDS = 12  # of a side


@dataclass(frozen=True)
class FeatureShares:
    """A trait or a word, and the share of texts with it on each side, 0 to 1."""

    name: str
    pool: float
    target: float


@dataclass(frozen=True)
class LengthQuartiles:
    """Quartiles of the texts' lengths, in characters."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class PoolDifferences:
    """All differences, the largest first."""

    pool_length: LengthQuartiles
    target_length: LengthQuartiles
    traits: list[FeatureShares]  # those that differ
    pool_words: list[FeatureShares]
    target_words: list[FeatureShares]


def find_differences(read: TextFeatures, pool: list[str], target: list[str]) -> PoolDifferences:
    """Find the differences. Args: read, features of the pool's texts followed by the target's."""
    is_pool = np.arange(len(pool) + len(target)) < len(pool)
    pool_words, target_words = _words(read, is_pool)
    return PoolDifferences(_quartiles(pool), _quartiles(target), _traits(pool, target), pool_words, target_words)


def _quartiles(texts: list[str]) -> LengthQuartiles:
    """Quartiles of the lengths."""
    return LengthQuartiles(*(float(value) for value in np.quantile(lengths(texts), [0.25, 0.5, 0.75])))


def _traits(pool: list[str], target: list[str]) -> list[FeatureShares]:
    """Traits whose shares differ by LEAST_GAP or more, the largest difference first."""
    shares = zip(TRAITS, trait_table(pool).mean(axis=0).tolist(), trait_table(target).mean(axis=0).tolist(), strict=True)
    found = [FeatureShares(*row) for row in shares]
    return sorted((row for row in found if abs(row.pool - row.target) >= LEAST_GAP), key=lambda row: -abs(row.pool - row.target))


def _words(read: TextFeatures, is_pool: NDArray[np.bool_]) -> tuple[list[FeatureShares], list[FeatureShares]]:
    """(the words most typical of the pool, those most typical of the target).

    Words are ranked by weight times difference of mean value, which is their part in the distance of the two mean scores. Longer
    texts hold more of all words, so a word must also make up a larger share of all words than on the other side, beyond chance.
    """
    has = (read.counts > 0).astype(np.float64)
    in_pool, in_target = _means(has, is_pool), _means(has, ~is_pool)
    levels, excess = _excess(read.counts, is_pool)
    common = np.asarray(has.sum(axis=0)).ravel() >= MIN_TEXTS
    chance = np.ones(len(levels))
    if common.any():
        chance[common] = false_discovery_control(levels[common])
    weights = word_weights(read, is_pool)
    adds = weights * (_means(read.words, is_pool) - _means(read.words, ~is_pool))
    sides = []
    for sign in (1, -1):
        shown = common & (chance <= MAX_FDR) & (sign * weights > 0) & (sign * excess > 0)
        ranked = [i for i in np.argsort(-adds, kind="stable") if shown[i] and read.terms[i] != NO_TERM]
        sides.append([FeatureShares(read.terms[i], float(in_pool[i]), float(in_target[i])) for i in ranked[:MAX_WORDS]])
    return sides[0], sides[1]


def _excess(counts: Any, is_pool: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(p-values, occurrences in the pool beyond expectation), each float64 [W].

    If the pool holds a share s of all terms, then s K of a term's K occurrences are expected there, and the exact binomial test
    gives the p-value of another number. But occurrences of a word cluster within texts, so counts are first divided by the
    dispersion of the texts' counts around the expectation from their lengths.

    Args: counts sparse int [N, W]; is_pool bool [N].
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
    """float64 [W]: column means over some rows."""
    means: NDArray[np.float64] = np.asarray(matrix[rows].sum(axis=0), dtype=np.float64).ravel() / rows.sum()
    return means
