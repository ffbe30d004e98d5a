"""What more texts and more paths bring: soft labels and a stand-in student by size, from paths that are stored already.

A student is trained for minutes, so a linear model over the embeddings of the texts stands in for it, asked about gold texts that
it has not learned from. It shows where a curve rises and where it is flat, not what a student scores.

Axes: N texts, H width, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.stand_in import learned_answers
from potstill.labeler.aggregation.other_texts.surroundings import Surroundings, settled
from potstill.labeler.aggregation.path_table import NO_GOLD, PathTable
from potstill.labeler.aggregation.soft_labels import distributions
from potstill.labeler.store.database import RunSettings

FIRST = 125  # texts of the smallest part; each further one has twice as many
MIN_GOLD = 30  # texts; with fewer every interval is wider than any curve is high
N_DRAWS = 3  # of texts for each part but the whole; fewer would show luck, more take long

Progress = Callable[[int, int], None]  # parts done, of how many


@dataclass(frozen=True)
class BudgetPoint:
    """What a part of the texts and paths comes to, on the gold texts: macro-F1, mean over draws of the texts."""

    n_texts: int  # without the gold texts
    n_paths: int  # of each text
    labels: Score  # the soft labels of the gold texts
    student: Score  # the stand-in, which learned from the other texts' labels alone


def budget_points(
    table: PathTable, settings: RunSettings, config: DeriveConfig, vectors: NDArray[np.float32], progress: Progress | None = None
) -> list[BudgetPoint]:
    """Score every part: 125, 250, 500, ... texts and all, by 1, 2, 4, ... paths and all; those with fewer paths first.

    Gold texts are labelled along with every part, as `potstill label --gold` does, and no model learns from them or their gold.

    Args:
        table: of a choice among labels that every path was asked about.
        config: how soft labels are derived; `auto` is settled for each part.
        vectors: float32 [N, H], embeddings of the table's texts, rows of length 1.
    Raises:
        UserError: if there is too little gold, or there are too few texts for a curve.
    """
    gold = np.flatnonzero(table.gold != NO_GOLD)
    others = np.flatnonzero(table.gold == NO_GOLD)
    if len(gold) < MIN_GOLD:
        raise UserError(
            f"{len(gold)} texts of the run have a gold label, and a curve needs {MIN_GOLD}; label some with --gold, then ask again"
        )
    if len(others) < 2 * FIRST:
        raise UserError(f"{len(others)} texts of the run have no gold label, and a curve needs {2 * FIRST}; label more texts")
    sizes = _doublings(FIRST, len(others))
    parts = [(n_paths, n) for n_paths in _doublings(1, int(table.n_paths.max())) for n in sizes]
    points = []
    for done, (n_paths, n) in enumerate(parts):
        if progress is not None:
            progress(done, len(parts))
        drawn = [_answers(table.first_paths(n_paths), rows, gold, (settings, config, vectors)) for rows in _draws(others, n)]
        wanted = table.gold[gold]
        labels, student = ([pair[side] for pair in drawn] for side in (0, 1))
        points.append(BudgetPoint(n, n_paths, _mean_score(labels, wanted), _mean_score(student, wanted)))
    if progress is not None:
        progress(len(parts), len(parts))
    return points


def _doublings(first: int, last: int) -> list[int]:
    """First, twice as many, ..., and last."""
    found = [first]
    while 2 * found[-1] < last:
        found.append(2 * found[-1])
    return [*found, last] if last > first else found


def _draws(others: NDArray[np.int64], n: int) -> Iterator[NDArray[np.int64]]:
    """Random parts of the texts, int [n], each in rising order; all of them once."""
    if n == len(others):
        yield others
        return
    for seed in range(N_DRAWS):
        yield np.sort(np.random.default_rng(seed).permutation(others)[:n])


def _answers(
    table: PathTable,
    rows: NDArray[np.int64],
    gold: NDArray[np.int64],
    how: tuple[RunSettings, DeriveConfig, NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What soft labels and the stand-in say of the gold texts, float [N gold, C] each. Args: rows, of the other texts."""
    settings, config, vectors = how
    both = np.concatenate([rows, gold])
    part = table.of_texts(np.sort(both))
    place = np.searchsorted(np.sort(both), both)
    config, _ = settled(config, len(both))
    own = vectors[np.sort(both)]
    around = Surroundings(vectors=own if config.refine == "on" else None, guessed=config.prior is None)
    probs = distributions(part, settings, config, around).probs
    learned, asked = place[: len(rows)], place[len(rows) :]
    return probs[asked], learned_answers(own[learned], probs[learned], own[asked])


def _mean_score(answers: Sequence[NDArray[np.float64]], gold: NDArray[np.int64]) -> Score:
    """Mean macro-F1 of several answers to the same texts; the mean of their intervals is at least as wide as that of the mean."""
    found = [metrics.score(metrics.macro_f1, probs, gold) for probs in answers]
    value, low, high = np.mean([[score.value, score.low, score.high] for score in found], axis=0).tolist()
    return Score(value=value, low=low, high=high, n=len(gold))
