"""Whether a pool is of the same kind as the texts that a student will answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.contract.scores.record import Score
from potstill.trainer.pool_check.differences import Telltale, telltale
from potstill.trainer.pool_check.sample import SampleConfig, Side, cleaned, drawn
from potstill.trainer.pool_check.separability import auc_by, everything, reading

WARN_ABOVE = 0.8  # AUC


@dataclass(frozen=True)
class PoolCheck:
    """What a classifier made of pool and target texts."""

    auc: Score  # 0.5: it cannot tell them apart; 1: it always can
    auc_by_words: Score
    auc_by_form: Score  # lengths and traits
    n_pool: int  # texts that were there to draw from
    n_target: int
    n_each: int  # texts compared, of each side
    n_repeated: tuple[int, int]  # left out of pool and target: texts that repeat an earlier one
    n_shared: int  # left out: texts that stood on both sides
    found: Telltale

    @property
    def warns(self) -> bool:
        """Whether the two are too easy to tell apart."""
        return self.auc.value > WARN_ABOVE


def check_pool(pool: Side, target: Side, config: SampleConfig) -> PoolCheck:
    """Learn to tell pool from target texts, and say how well it goes and by what.

    Raises:
        UserError: if fewer than 50 different texts of a side are left without those that stand on both.
    """
    left = cleaned(pool, target)
    n = min(len(left.pool), len(left.target), config.max_texts)
    ours, theirs = drawn(left.pool, n, config.seed), drawn(left.target, n, config.seed)
    read, is_pool = reading([*ours, *theirs]), np.arange(2 * n) < n
    return PoolCheck(
        auc=auc_by(everything(read), is_pool, config.seed),
        auc_by_words=auc_by(read.words, is_pool, config.seed),
        auc_by_form=auc_by(read.form, is_pool, config.seed),
        n_pool=len(left.pool),
        n_target=len(left.target),
        n_each=n,
        n_repeated=left.n_repeated,
        n_shared=left.n_shared,
        found=telltale(read, ours, theirs),
    )
