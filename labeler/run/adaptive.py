"""Early stopping: draw no further path of a text once its leading label would very probably lead in the long run.

A text's answers are votes with unknown shares. With a flat prior over the two leading labels, the leader's share of the votes for
these two has a beta posterior, and the leader is the true one with the probability that this share is above one half
(Adaptive-Consistency, Aggarwal et al. 2023, arXiv:2305.11860, section 3). A vote is a path's calibrated and sharpened answer:
without calibration a small teacher is unanimous about one label whatever it reads.

The same certainty picks the texts that later variants ask about: the undecided ones, or the least certain share.

Axes: P paths of one text, C labels.
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
from potstill.labeler.store.database import LabelStore, Run, RunSettings
from potstill.labeler.teacher import TeacherPath

VOTE_POWER = 8.0  # whole votes save as many paths and lose more; without sharpening nothing is ever decided (docs/log.md)
N_PILOT = 96  # texts whose first paths show which label the teacher prefers, before any text can be decided
N_FIRST = 2  # paths that every text gets


def leader_probability(votes: Sequence[float] | NDArray[np.float64]) -> float:
    """Probability that the label with the most votes is the teacher's favourite in the long run, from 0.5 to 1.

    Args:
        votes: float [C], each at least 0, not necessarily whole numbers; C is at least 2.
    """
    second, first = sorted(votes)[-2:]
    return float(1 - betainc(first + 1, second + 1, 0.5))


def as_vote(logprobs: NDArray[np.float64], power: float = VOTE_POWER) -> NDArray[np.float64]:
    """One path's vote, split among the labels: its distribution, sharpened.

    So a path that hardly prefers its favourite counts less than one that is sure of it.

    Args:
        logprobs: float [P, C], up to a constant in each row, or [C] for one path.
        power: above 0, no unit; the larger, the closer to one whole vote for the favourite.
    Returns:
        float, of the same shape, at least 0; each row sums to 1.
    """
    return np.asarray(softmax(power * logprobs, axis=-1), dtype=np.float64)


class Ballot:
    """Every text's votes so far, for the prompt variant that is being drawn.

    Votes count in the order of the paths' numbers, not of arrival: short rationales arrive first and may answer differently.
    So whether a text is decided depends on its paths alone, and a decided text stays decided when a started path arrives late.
    """

    def __init__(self, shift: NDArray[np.float64], word_labels: Sequence[int], bound: float, order: Sequence[int]) -> None:
        """Start with no votes.

        Args:
            shift: float [C], added to a path's label log-probabilities (nats) before it votes.
            word_labels: label index of each label word.
            bound: a text is decided when its leader leads with this probability, from 0.5 to 1.
            order: numbers of the variant's paths, in drawing order.
        """
        self._shift, self._word_labels, self._bound = shift, np.asarray(word_labels), bound
        self._places = {number: place for place, number in enumerate(order)}
        self._texts: dict[str, _Votes] = {}

    def add(self, text_id: str, path: int, word_logprobs: Sequence[float]) -> None:
        """Count one path's answer; adding a path twice changes nothing.

        Args:
            word_logprobs: log-probability (nats) of each label word.
        """
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

    by_label: NDArray[np.float64]  # [C], of the counted paths
    n_counted: int = 0  # paths, from the first on without a gap
    waiting: dict[int, NDArray[np.float64]] = field(default_factory=dict)  # votes that arrived before an earlier path's
    decided: bool = False


def calibration_shift(paths: Sequence[TeacherPath], settings: RunSettings) -> NDArray[np.float64]:
    """The shift of the label log-probabilities (nats) after which these paths prefer no label, float [C].

    Args:
        paths: of one variant, at least one.
    """
    if settings.candidates:  # a pilot is too small to say which of many labels is preferred
        return np.zeros(len(settings.labels))
    raw = np.asarray(log_softmax(path_logprobs(paths, settings), axis=1))
    return np.asarray((batch_calibrated(raw) - raw)[0])  # the same for every path, up to a constant that changes no vote


def undecided(store: LabelStore, run: Run, texts: Sequence[Text], bound: float, *, below: int) -> list[Text]:
    """The texts whose leading label is the true leader with a probability below ``bound``.

    Args:
        bound: from 0.5 to 1.
        below: only paths of variants below this number count.
    """
    by_text = _calibrated_rows(store, run, below)
    votes = {i: as_vote(rows, VOTE_POWER / SHARPNESS["direct"]).sum(axis=0) for i, rows in by_text.items()}
    return [text for text in texts if text.id not in votes or leader_probability(votes[text.id]) < bound]


def least_certain(store: LabelStore, run: Run, texts: Sequence[Text], share: float, *, below: int) -> list[Text]:
    """The texts whose most probable label is least probable, in their original order.

    Args:
        share: of the texts that have paths, from 0 to 1.
        below: only paths of variants below this number count.
    """
    certainty = certainties(store, run, below=below)
    ranked = sorted((text for text in texts if text.id in certainty), key=lambda text: (certainty[text.id], text.id))
    chosen = {text.id for text in ranked[: round(share * len(ranked))]}
    return [text for text in texts if text.id in chosen]


def certainties(store: LabelStore, run: Run, *, below: int) -> dict[str, float]:
    """Calibrated probability of each text's most probable label, from 1 / number of labels to 1, by text id.

    Args:
        below: only paths of variants below this number count.
    """
    return {i: float(np.exp(rows).mean(axis=0).max()) for i, rows in _calibrated_rows(store, run, below).items()}


def _calibrated_rows(store: LabelStore, run: Run, below: int) -> dict[str, NDArray[np.float64]]:
    """Calibrated log-probabilities (nats) of each text's paths, float [P, C], by text id."""
    paths = [path for path in store.paths(run) if path.variant < below]
    if not paths:
        return {}
    table = path_table(store, run, paths)
    by_text = np.argsort(table.owners, kind="stable")
    rows = np.split(calibrated(table)[by_text], np.cumsum(table.n_paths)[:-1])
    return {text.id: own for text, own in zip(table.texts, rows, strict=True)}
