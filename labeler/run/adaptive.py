"""Stopping a text's paths once it is decided: the posterior probability that its leading label would lead in the long run.

A text's answers are votes with unknown shares. With a flat prior over the two foremost labels, the share of the leader among the
votes for either has a beta distribution, and the leader leads in truth with the probability that this share is above one half
(Adaptive-Consistency, Aggarwal et al. 2023, arXiv:2305.11860, section 3). A vote is a path's answer after calibration, sharpened:
without calibration a small teacher is unanimous about one label whatever it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, log_softmax, softmax

from potstill.contract.texts import Text
from potstill.labeler.aggregation.calibration import batch_calibrated
from potstill.labeler.aggregation.path_table import path_logprobs, path_table
from potstill.labeler.aggregation.soft_labels import SHARPNESS, calibrated
from potstill.labeler.store.label_store import LabelStore, Run, RunSettings
from potstill.labeler.teacher import TeacherPath

BOUND = 0.75  # of --adaptive when no number is given
VOTE_POWER = 8.0  # whole votes save as many paths and lose more; without sharpening nothing is ever decided (docs/log.md)
N_PILOT = 96  # texts whose first paths show which label the teacher prefers, before any text is called decided
N_FIRST = 2  # paths that every text gets


def leader_probability(votes: Sequence[float] | NDArray[np.float64]) -> float:
    """Probability that the label with the most votes is the teacher's favourite in the long run, from 0.5 to 1.

    Args:
        votes: at least two, each at least 0, by label; fractions of votes count as such.
    """
    second, first = sorted(votes)[-2:]
    return float(1 - betainc(first + 1, second + 1, 0.5))


def as_vote(logprobs: NDArray[np.float64], power: float = VOTE_POWER) -> NDArray[np.float64]:
    """One path's vote, shared out among the labels: its distribution, sharpened.

    A path that hardly prefers its favourite should not count as much as one that is sure of it.

    Args:
        logprobs: float [..., C], up to a constant in each row.
        power: above 0, no unit; larger comes closer to one whole vote for the favourite.
    Returns:
        float [..., C], at least 0; each row sums to 1.
    """
    return np.asarray(softmax(power * logprobs, axis=-1), dtype=np.float64)


class Ballot:
    """The votes so far of every text, for one prompt variant that is being drawn.

    Votes count in the order of the paths' numbers, not of their arrival: short rationales arrive first and may say something else.
    So whether a text is decided depends on its paths alone, and a decided text stays so when a path that had begun comes in late.
    """

    def __init__(self, shift: NDArray[np.float64], word_labels: Sequence[int], bound: float, order: Sequence[int]) -> None:
        """Start with no vote.

        Args:
            shift: float [C], added to a path's label log-probabilities before its favourite is taken.
            word_labels: index of the label that each word stands for.
            bound: a text is decided when its leader leads with this probability; from 0.5 to 1.
            order: numbers of the variant's paths, as they are drawn.
        """
        self._shift, self._word_labels, self._bound = shift, np.asarray(word_labels), bound
        self._places = {number: place for place, number in enumerate(order)}
        self._texts: dict[str, _Votes] = {}

    def add(self, text_id: str, path: int, word_logprobs: Sequence[float]) -> None:
        """One path's answer; a path that was added already changes nothing."""
        probs = np.bincount(self._word_labels, weights=np.exp(np.asarray(word_logprobs)), minlength=len(self._shift))
        vote = as_vote(np.log(np.maximum(probs, 1e-300)) + self._shift)
        votes = self._texts.setdefault(text_id, _Votes(np.zeros(len(self._shift))))
        place = self._places[path]
        if place >= votes.n_counted:
            votes.waiting[place] = vote
        while votes.n_counted in votes.waiting:
            votes.by_label += votes.waiting.pop(votes.n_counted)
            votes.n_counted += 1
            votes.decided |= votes.n_counted >= N_FIRST and leader_probability(votes.by_label) >= self._bound

    def decided(self, text_id: str) -> bool:
        """Whether the text needs no further path."""
        votes = self._texts.get(text_id)
        return votes is not None and votes.decided


@dataclass
class _Votes:
    """One text's votes."""

    by_label: NDArray[np.float64]  # [C], of the paths counted
    n_counted: int = 0  # paths, from the first on without a gap
    waiting: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # votes of later paths, by their place
    decided: bool = False


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
