"""How the texts of a run stand after its first questions: who is decided, and who is least certain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from potstill.contract.texts import Text
from potstill.labeler.adaptive import VOTE_POWER, as_vote, leader_probability
from potstill.labeler.aggregation.calibration import batch_calibrated
from potstill.labeler.aggregation.path_table import path_logprobs, path_table
from potstill.labeler.aggregation.soft_labels import SHARPNESS, calibrated
from potstill.labeler.paths import TeacherPath
from potstill.labeler.store.label_store import LabelStore, Run, RunSettings


def habit(paths: Sequence[TeacherPath], settings: RunSettings) -> NDArray[np.float64]:
    """What has to be added to label log-probabilities so that these paths prefer no label, float [C].

    Args:
        paths: of one variant, at least one.
    """
    raw = np.asarray(log_softmax(path_logprobs(paths, settings), axis=1))
    return np.asarray((batch_calibrated(raw) - raw)[0])  # the same for every path, up to a constant that no favourite depends on


def undecided(store: LabelStore, run: Run, texts: Sequence[Text], bound: float, *, below: int) -> list[Text]:
    """The texts whose leading label, by the variants below that number, is not the leader with probability ``bound``."""
    standings = _standings(store, run, below)
    votes = {i: as_vote(rows, VOTE_POWER / SHARPNESS["direct"]).sum(axis=0) for i, rows in standings.items()}
    return [text for text in texts if text.id not in votes or leader_probability(votes[text.id]) < bound]


def least_certain(store: LabelStore, run: Run, texts: Sequence[Text], share: float, *, below: int) -> list[Text]:
    """The given share of the texts, in their order: those whose favourite is least probable by the variants below that number."""
    standings = _standings(store, run, below)
    certainty = {i: float(np.exp(rows).mean(axis=0).max()) for i, rows in standings.items()}
    ranked = sorted((text for text in texts if text.id in certainty), key=lambda text: (certainty[text.id], text.id))
    chosen = {text.id for text in ranked[: round(share * len(ranked))]}
    return [text for text in texts if text.id in chosen]


def _standings(store: LabelStore, run: Run, below: int) -> dict[str, NDArray[np.float64]]:
    """Calibrated log-probabilities [P, C] of each text's paths, by text id."""
    paths = [path for path in store.paths(run) if path.variant < below]
    if not paths:
        return {}
    table = path_table(store, run, paths)
    by_text = np.argsort(table.owners, kind="stable")
    rows = np.split(calibrated(table, run.settings)[by_text], np.cumsum(table.n_paths)[:-1])
    return {text.id: own for text, own in zip(table.texts, rows, strict=True)}
