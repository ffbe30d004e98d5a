"""As many texts of a pool as of the target texts, no text twice and none on both sides.

A text that stood on both sides, or twice on one, could be learned by heart in one fold and met again in the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from potstill.contract.errors import UserError

MIN_TEXTS = 50  # of a side; with fewer the interval is too wide to say anything
MOST_TEXTS = 10_000  # more would take minutes and say the same


@dataclass(frozen=True)
class SampleConfig:
    """How many texts are compared, and which; raises UserError if the number is out of its range."""

    max_texts: int = 2000  # of each side
    seed: int = 0  # of the sample, the folds and the interval

    def __post_init__(self) -> None:
        """Refuse what would say nothing or never end; raises UserError."""
        if not MIN_TEXTS <= self.max_texts <= MOST_TEXTS:
            raise UserError(f"{self.max_texts} texts of a side; allowed: {MIN_TEXTS} to {MOST_TEXTS}")


@dataclass(frozen=True)
class Side:
    """Texts from one source."""

    name: str  # of the file, for messages
    texts: list[str]


@dataclass(frozen=True)
class Cleaned:
    """What is left of both sides, in file order, and what was left out."""

    pool: list[str]
    target: list[str]
    n_repeated: tuple[int, int]  # texts of the pool and of the target that repeat an earlier one of their side
    n_shared: int  # different texts that stood on both sides


def cleaned(pool: Side, target: Side) -> Cleaned:
    """Each text once, and only those of one side alone; texts that differ in case and white space only are the same.

    Raises:
        UserError: if fewer than MIN_TEXTS are left of a side.
    """
    ours, theirs = _by_content(pool.texts), _by_content(target.texts)
    shared = ours.keys() & theirs.keys()
    found = Cleaned(
        pool=[text for key, text in ours.items() if key not in shared],
        target=[text for key, text in theirs.items() if key not in shared],
        n_repeated=(len(pool.texts) - len(ours), len(target.texts) - len(theirs)),
        n_shared=len(shared),
    )
    for side, left in ((pool, found.pool), (target, found.target)):
        if len(left) < MIN_TEXTS:
            raise UserError(_too_few(side, len(left), len(shared)))
    return found


def drawn(texts: list[str], n: int, seed: int) -> list[str]:
    """At most n of the texts, drawn without replacement, in their order."""
    if len(texts) <= n:
        return texts
    places = np.sort(np.random.default_rng(seed).choice(len(texts), n, replace=False))
    return [texts[i] for i in places]


def content(text: str) -> str:
    """What two texts have in common that differ in case and white space only."""
    return " ".join(text.casefold().split())


def _by_content(texts: Iterable[str]) -> dict[str, str]:
    """The first text of every content."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(content(text), text)
    return found


def _too_few(side: Side, n_left: int, n_shared: int) -> str:
    """The error for a side that is too small, or that is nearly all on the other side too."""
    if n_left + n_shared >= MIN_TEXTS:
        what = f"{n_left} different texts are left without the {n_shared} that stand on the other side too"
        return f"{side.name}: {what}; at least {MIN_TEXTS} are needed, and what stands on both sides cannot be told apart"
    return f"{side.name}: holds {n_left + n_shared} different texts; at least {MIN_TEXTS} are needed on each side: add some"
