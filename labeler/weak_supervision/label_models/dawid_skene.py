"""Dawid and Skene's model of annotators, for votes that are distributions and for sources that abstain.

Each source has a confusion matrix: how often it says what about texts of each label. Nobody knows the labels; expectation
maximization finds labels and matrices that explain each other. To abstain is one more thing that a source can say, unless it was
not asked. A vote that is a distribution says that the source would have said each label with that probability.

Axes: S sources, N texts, C labels, V = C + 1 things to say: a label, or (the last) to abstain.
Source: Dawid, Skene 1979, Applied Statistics 28(1); abstentions as votes: Ratner et al. 2017, arXiv:1711.10160, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from potstill.labeler.weak_supervision.config import DawidSkeneConfig
from potstill.labeler.weak_supervision.votes import DECIDING, VoteTable

MAX_ROUNDS = 1000  # of expectation maximization
TOLERANCE = 1e-8  # of the mean log-likelihood of a text, in nats: a smaller gain ends it
_TINY = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DawidSkeneFit:
    """Labels and sources as the model explains the votes."""

    probs: Floats  # [N, C], rows sum to 1
    prior: Floats  # [C], the labels' shares
    confusion: Floats  # [S, C, V], probability that a source says v about a text of label c; rows sum to 1
    log_likelihoods: list[float]  # mean over the texts, in nats, after each round; with a strength of 0 they never fall
    converged: bool


def dawid_skene(
    votes: VoteTable, start: Floats, prior: Floats | None = None, config: DawidSkeneConfig | None = None
) -> DawidSkeneFit:
    """Estimate labels, and the confusion matrix of every source.

    Args:
        votes: of S sources on N texts.
        start: float [N, C], rows sum to 1: the labels to begin with, such as the majority's.
        prior: float [C], above 0, sums to 1: the labels' shares where they are known; None: estimated too.
        config: None: the defaults.
    """
    config = config or DawidSkeneConfig()
    said = _said(votes)
    asked = np.asarray(said.any(axis=2))  # [S, N]
    before = config.strength * _believed(votes, said, start.mean(axis=0) if prior is None else prior, config)  # [S, C, V]
    labels, likelihoods = start, list[float]()
    confusion = _rates(np.einsum("nc,snv->scv", labels, said) + before)
    for _ in range(MAX_ROUNDS):
        shares = prior if prior is not None else labels.mean(axis=0)
        evidence = np.maximum(said @ confusion.swapaxes(1, 2), _TINY)  # [S, N, C], probability of what a source said, by label
        logs = np.where(asked[..., None], np.log(evidence), 0).sum(axis=0) + np.log(np.maximum(shares, _TINY))
        totals = logsumexp(logs, axis=1, keepdims=True)
        labels = np.exp(logs - totals)
        likelihoods.append(float(totals.mean()))
        if len(likelihoods) > 1 and abs(likelihoods[-1] - likelihoods[-2]) < TOLERANCE:
            return DawidSkeneFit(labels, np.asarray(shares), confusion, likelihoods, True)
        # What was said, counted for each label: of a distribution, as probable as each thing is if the text has that label.
        counts = confusion * np.einsum("snc,snv->scv", labels / evidence, said)
        confusion = _rates(counts + before)
    return DawidSkeneFit(labels, np.asarray(shares), confusion, likelihoods, False)


def _said(votes: VoteTable) -> Floats:
    """What each source says about each text, float [S, N, V]; rows sum to 1, or are 0 where it was not asked."""
    silent = [(source.asked & ~source.voted).astype(np.float64) for source in votes.sources]
    return np.concatenate([votes.probs, np.stack(silent)[..., None]], axis=2)


def _believed(votes: VoteTable, said: Floats, shares: Floats, config: DawidSkeneConfig) -> Floats:
    """What is counted of each source before its votes are, for one vote, float [S, C, V].

    A source says each label as often as it does; of the texts of which it says so, the stated share has that label. It counts as
    many texts as the source needs for a vote, so that a rule that seldom votes is not judged by a handful.

    Args:
        votes: of the sources.
        said: float [S, N, V], the same.
        shares: float [C], of the labels.
        config: the stated shares.
    """
    n_labels = len(shares)
    accuracies = np.array([config.people if source.kind == "people" else config.accuracy for source in votes.sources])
    free = np.array([source.kind not in DECIDING for source in votes.sources])  # may say any label, whatever it has said so far
    counts = said.sum(axis=1)  # [S, V]
    counts[:, :-1] += free[:, None] * n_labels * shares
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), _TINY)
    own, wrong = accuracies[:, None, None], (1 - accuracies[:, None, None]) / (n_labels - 1)
    joint = rates[:, None, :-1] * np.where(
        np.eye(n_labels, dtype=np.bool_), own, wrong
    )  # [S, C, V - 1], of a label and what is said
    silent = np.maximum(shares - joint.sum(axis=2), 0)[..., None]  # so that each label has its share of the texts
    silent = silent * (rates[:, -1:, None] > 0)
    voting = np.maximum(1 - rates[:, -1], _TINY)
    return np.asarray(np.concatenate([joint, silent], axis=2) / voting[:, None, None])


def _rates(counts: Floats) -> Floats:
    """Counts as probabilities of each thing that is said, float [S, C, V], rows sum to 1; a row without any is even."""
    totals = counts.sum(axis=2, keepdims=True)
    return np.asarray(np.where(totals > 0, counts / np.maximum(totals, _TINY), 1 / counts.shape[2]))
