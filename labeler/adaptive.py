"""Stopping a text's paths once it is decided: the posterior probability that its leading label would lead in the long run.

A text's answers are votes with unknown shares. With a flat prior over the two foremost labels, the share of the leader among the
votes for either has a beta distribution, and the leader leads in truth with the probability that this share is above one half
(Adaptive-Consistency, Aggarwal et al. 2023, arXiv:2305.11860, section 3). A vote is a path's favourite after calibration: without
it a small teacher is unanimous about one label whatever it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

BOUND = 0.85  # of --adaptive when no number is given
N_PILOT = 96  # texts whose first paths show which label the teacher prefers, before any text is called decided
N_FIRST = 2  # paths that every text gets


def leader_probability(votes: Sequence[float] | NDArray[np.float64]) -> float:
    """Probability that the label with the most votes is the teacher's favourite in the long run, from 0.5 to 1.

    Args:
        votes: at least two, each at least 0, by label; fractions of votes count as such.
    """
    second, first = sorted(votes)[-2:]
    return float(1 - betainc(first + 1, second + 1, 0.5))


class Ballot:
    """The votes so far of every text, for one prompt variant that is being drawn."""

    def __init__(self, shift: NDArray[np.float64], word_labels: Sequence[int], bound: float) -> None:
        """Start with no vote.

        Args:
            shift: float [C], added to a path's label log-probabilities before its favourite is taken.
            word_labels: index of the label that each word stands for.
            bound: a text is decided when its leader leads with this probability; from 0.5 to 1.
        """
        self._shift, self._word_labels, self._bound = shift, np.asarray(word_labels), bound
        self._votes: dict[str, NDArray[np.float64]] = {}

    def add(self, text_id: str, word_logprobs: Sequence[float]) -> None:
        """One path's answer."""
        probs = np.bincount(self._word_labels, weights=np.exp(np.asarray(word_logprobs)), minlength=len(self._shift))
        favourite = int(np.argmax(np.log(np.maximum(probs, 1e-300)) + self._shift))
        self._votes.setdefault(text_id, np.zeros(len(self._shift)))[favourite] += 1

    def decided(self, text_id: str) -> bool:
        """Whether the text needs no further path."""
        votes = self._votes.get(text_id)
        return votes is not None and votes.sum() >= N_FIRST and leader_probability(votes) >= self._bound
