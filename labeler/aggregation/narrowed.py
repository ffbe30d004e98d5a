"""Soft labels of texts that were asked among candidates: what was believed of a text before, times what the teacher says.

The names of many labels have many lengths, and a long name has a small probability whatever the text is. So what the teacher says
of a name counts by its length: per four letters, about a token (:func:`per_letter`). What is left of its preference for single
labels is taken out as everywhere, but estimated on the texts to which a label was offered, and less so the fewer they are.

Axes: P paths of one prompt variant, W label words, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from potstill.labeler.aggregation.calibration import label_shift

LETTERS = 4.0  # that count as one token; with it, no power of the evidence was better than 1 (docs/log.md)
FEW = 20.0  # texts to which a label must have been offered for half of the teacher's preference for it to be taken out


def per_letter(word_logprobs: NDArray[np.float64], words: Sequence[str]) -> NDArray[np.float64]:
    """Log-probability (nats) per four letters of each word, float [P, W]: length alone makes no word less probable.

    Args:
        word_logprobs: float [P, W], of whole words; -inf where a word was not asked.
        words: [W]; spaces are no letters.
    """
    n_letters = np.array([max(1, len("".join(word.split()))) for word in words])
    return np.asarray(word_logprobs * (LETTERS / n_letters))


def posterior(
    logprobs: NDArray[np.float64], asked: NDArray[np.bool_], log_prior: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Combine the teacher's evidence about the candidates with what was believed before, by Bayes' rule.

    Args:
        logprobs: float [P, C], of the teacher, up to a constant in each row; what is not asked is ignored.
        asked: bool [P, C], whether a path was asked about a label; at least one in each row.
        log_prior: float [P, C], normalised over C: before the teacher was asked.
        weights: float [P], at least 0, not all 0: of each path in the teacher's preferences.
    Returns:
        Log-probabilities (nats), float [P, C], normalised over C. The probability of what was not asked is that of the prior.
    """
    evidence = log_softmax(np.where(asked, logprobs, -np.inf), axis=1)
    evidence = evidence + preferences(evidence, asked, weights)
    return with_rest(log_softmax(np.where(asked, evidence + log_prior, -np.inf), axis=1), log_prior)


def preferences(evidence: NDArray[np.float64], asked: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to the evidence for each label, float [C] in nats, so that the teacher prefers none.

    Fully added, a label has the mean probability that chance gives it on the texts to which it was offered: batch calibration to
    those means. A label that was offered to n texts gets the share n / (n + FEW) of it, so one that was rarely offered keeps nearly
    all that the teacher says of it.

    Args:
        evidence: float [P, C], normalised over what was asked, -inf elsewhere.
        asked: bool [P, C], at least one in each row.
        weights: float [P], at least 0, not all 0.
    """
    n_offered = asked.sum(axis=0)
    known = n_offered > 0
    chance = (asked / asked.sum(axis=1, keepdims=True))[:, known]
    shift = np.zeros(evidence.shape[1])
    shift[known] = label_shift(evidence[:, known], weights @ chance / weights.sum(), weights)
    return np.asarray(shift * n_offered / (n_offered + FEW))


def with_rest(logprobs: NDArray[np.float64], log_prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distributions over the candidates, made distributions over all labels: the others keep what was believed of them before.

    Args:
        logprobs: float [P, C], normalised over the candidates, -inf elsewhere.
        log_prior: float [P, C], normalised over C.
    Returns:
        float [P, C], normalised over C, finite.
    """
    asked = np.isfinite(logprobs)
    inside = logsumexp(np.where(asked, log_prior, -np.inf), axis=1, keepdims=True)
    return np.asarray(log_softmax(np.where(asked, logprobs + inside, log_prior), axis=1))  # rounded values do not sum to 1 exactly


def brought_to(
    logprobs: NDArray[np.float64], shares: NDArray[np.float64], weights: NDArray[np.float64], *, stated: bool
) -> NDArray[np.float64]:
    """Distributions over all labels, brought to the labels' shares.

    Shares that nobody stated are only a guess, and with few texts of each label chance makes them differ: with n texts a label they
    are brought n / (n + FEW) of the way.

    Args:
        logprobs: float [P, C], normalised over C.
        shares: float [C], above 0, sums to 1.
        weights: float [P], at least 0, not all 0; their sum is the number of texts.
        stated: whether the shares are known, so that they are reached.
    Returns:
        float [P, C], normalised over C.
    """
    n_each = float(weights.sum()) / len(shares)
    part = 1.0 if stated else n_each / (n_each + FEW)
    return np.asarray(log_softmax(logprobs + part * label_shift(logprobs, shares, weights), axis=1))


def outside_probs(asked: NDArray[np.bool_], log_prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of all that was not asked, float [P]. Args: bool [P, C]; float [P, C], normalised over C."""
    return np.asarray(np.where(asked, 0.0, np.exp(log_prior)).sum(axis=1))
