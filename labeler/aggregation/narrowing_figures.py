"""How good the candidates of a run were: their recall on gold, and how often the likeliest one is also the teacher's choice.

Axes: N texts, P paths, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.labeler.aggregation.narrowed import outside_probs
from potstill.labeler.aggregation.path_table import NO_GOLD, PathTable
from potstill.labeler.store.database import RunSettings


@dataclass(frozen=True)
class NarrowingRow:
    """Figures of the candidates."""

    n_candidates: int
    n_labels: int
    outside: float  # mean stated probability of the labels that a text was not asked about
    recall: Score | None  # share of the gold texts whose label was a candidate, with its 95 % interval; None without gold
    first_right: Score | None  # share of the gold texts whose likeliest candidate is their label
    first_kept: float  # share of the texts whose most probable label, after the teacher, is the likeliest candidate


def narrowing_row(table: PathTable, settings: RunSettings, known: NDArray[np.float64]) -> NarrowingRow | None:
    """Figures of a run's candidates; None where every text was asked about all labels.

    Args:
        known: the calibrated paths, float [P, C].
    """
    if table.asked is None or table.log_prior is None:
        return None
    offered = table.per_text(table.asked.astype(np.float64)) > 0  # [N, C]
    first = table.log_prior.argmax(axis=1)
    after = table.per_text(np.exp(known)).argmax(axis=1)
    has_gold = table.gold != NO_GOLD
    recall = first_right = None
    if has_gold.any():
        n = len(table.texts)
        hit = offered[np.arange(n), np.maximum(table.gold, 0)]
        found = np.where(hit, table.gold, (np.maximum(table.gold, 0) + 1) % len(settings.labels))  # another label where it is none
        eye = np.eye(len(settings.labels))
        recall = metrics.score(metrics.accuracy, eye[found[has_gold]], table.gold[has_gold])
        first_right = metrics.score(metrics.accuracy, eye[first[has_gold]], table.gold[has_gold])
    return NarrowingRow(
        n_candidates=settings.candidates,
        n_labels=len(settings.labels),
        outside=float(outside_probs(table.asked, table.log_prior[table.owners]).mean()),
        recall=recall,
        first_right=first_right,
        first_kept=float(np.mean(first == after)),
    )
