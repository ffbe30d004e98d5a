"""Sample equally many pool and target texts, without duplicates and without texts that are on both sides.

A duplicate could be in a training fold and in the test fold, which would make the AUC too high.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from potstill.contract.errors import UserError
from potstill.trainer.pool_check.config import MIN_TEXTS, TextSource


@dataclass(frozen=True)
class DistinctTexts:
    """Both sides without duplicates and shared texts, in file order, and the numbers of texts left out."""

    pool: list[str]
    target: list[str]
    n_repeated: tuple[int, int]  # texts of the pool and of the target that repeat an earlier one of their side
    n_shared: int  # different texts that were on both sides


def without_shared(pool: TextSource, target: TextSource) -> DistinctTexts:
    """Keep each text once, and only if it is on one side alone; case and white space are ignored.

    Raises:
        UserError: if fewer than MIN_TEXTS are left of a side.
    """
    ours, theirs = _by_normal_form(pool.texts), _by_normal_form(target.texts)
    shared = ours.keys() & theirs.keys()
    found = DistinctTexts(
        pool=[text for key, text in ours.items() if key not in shared],
        target=[text for key, text in theirs.items() if key not in shared],
        n_repeated=(len(pool.texts) - len(ours), len(target.texts) - len(theirs)),
        n_shared=len(shared),
    )
    for side, left in ((pool, found.pool), (target, found.target)):
        if len(left) < MIN_TEXTS:
            raise UserError(_too_few(side, len(left), len(shared)))
    return found


def sampled(texts: list[str], n: int, seed: int) -> list[str]:
    """At most n of the texts, drawn without replacement, in file order."""
    if len(texts) <= n:
        return texts
    places = np.sort(np.random.default_rng(seed).choice(len(texts), n, replace=False))
    return [texts[i] for i in places]


def normalized(text: str) -> str:
    """The text in lower case with single spaces; equal for texts that differ in case and white space only."""
    return " ".join(text.casefold().split())


def _by_normal_form(texts: Iterable[str]) -> dict[str, str]:
    """The first text of every normal form."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(normalized(text), text)
    return found


def _too_few(side: TextSource, n_left: int, n_shared: int) -> str:
    """The error message for a side that is too small, or nearly all shared with the other."""
    if n_left + n_shared >= MIN_TEXTS:
        what = f"{n_left} different texts are left without the {n_shared} that are on both sides"
        return f"{side.name}: {what}; at least {MIN_TEXTS} are needed, and shared texts cannot be told apart"
    return f"{side.name}: holds {n_left + n_shared} different texts; at least {MIN_TEXTS} are needed on each side; add some"
