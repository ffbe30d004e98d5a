"""Refine soft labels by what all other texts say: a linear model of the labels over embeddings is the prior of each text.

A teacher's answer to a text is evidence about that text alone. Texts that lie close together mostly have the same label, so a
model that has learned from the others knows something of this one that its own answer does not say. Bayes' rule joins the two.

The model is a multinomial logistic regression whose labels are unknown: it maximizes the likelihood of the teacher's evidence,
summed over the labels that a text could have (Raykar et al. 2010, "Learning from crowds", JMLR 11, with calibrated probabilities as
evidence in place of a table of confusions). Trained on the soft labels themselves, it would learn the teacher's doubt as well: a
teacher that is right about two thirds of the texts of a group makes a prior of two thirds, where all of them have that label. Every
text's prior is from a model that has not seen it (cross-fitting), so that no error confirms itself.

Axes: N texts, H width, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from potstill.contract.files import digest
from potstill.contract.texts import Text

MIN_TEXTS = 200  # with fewer, nothing was gained by it (docs/log.md)
N_FOLDS = 5
RIDGE = 2.0  # penalty of half the squared weights, next to the sum of the texts' losses; from 1 to 4 little changed (docs/log.md)
_MAX_ITERATIONS = 60
_TINY = 1e-9


def refined(
    probs: NDArray[np.float64], log_prior: NDArray[np.float64], vectors: NDArray[np.float32], texts: Sequence[Text]
) -> NDArray[np.float64]:
    """Replace what was believed of each text before its answer by what the other texts say of it.

    Args:
        probs: float [N, C], rows sum to 1: after the teacher's answer.
        log_prior: float [N, C] or [C], nats: what was believed before it and is part of `probs`, the labels' shares say.
        vectors: float32 [N, H], embeddings of the texts, rows of length 1.
        texts: [N]; equal ones are always in the same fold.
    Returns:
        float [N, C], rows sum to 1. The columns' means are free: they are what evidence and texts make of the labels' shares.
    """
    before = np.broadcast_to(log_softmax(log_prior, axis=-1), probs.shape)
    evidence = np.log(np.clip(probs, _TINY, 1)) - before  # of the teacher's answer alone, up to a constant in each row
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    found = np.exp(log_softmax(cross_fitted(centred, evidence, before, folds_of(texts)) + evidence, axis=1))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def cross_fitted(
    vectors: NDArray[np.float64], evidence: NDArray[np.float64], before: NDArray[np.float64], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Log-probabilities of the labels from models that were fitted on the other folds, float [N, C], normalised over C.

    Args:
        vectors: float [N, H], with mean 0.
        evidence: float [N, C], nats, up to a constant in each row.
        before: float [N, C], nats: where the models begin, and stay where texts say nothing.
        folds: int [N].
    """
    out = before.copy()
    for fold in np.unique(folds):
        held = folds == fold
        weights = fit(vectors[~held], evidence[~held], before[~held])
        out[held] += vectors[held] @ weights[:-1] + weights[-1]
    return np.asarray(log_softmax(out, axis=1))


def fit(vectors: NDArray[np.float64], evidence: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """The model with the largest likelihood of the evidence, with RIDGE on its weights; biases are free.

    Args: as those of :func:`cross_fitted`.

    Returns:
        float [H + 1, C]: a row of weights for each direction, then the biases; what to add to `before`.
    """
    n, width = vectors.shape
    n_labels = evidence.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Penalised loss and its gradient, in nats per text."""
        weights, biases = flat[:-n_labels].reshape(width, n_labels), flat[-n_labels:]
        prior = log_softmax(before + vectors @ weights + biases, axis=1)
        joint = prior + evidence
        total = logsumexp(joint, axis=1, keepdims=True)
        gap = np.exp(prior) - np.exp(joint - total)  # from what is believed after the answer
        value = -total.sum() + RIDGE / 2 * (weights**2).sum()
        slope = vectors.T @ gap + RIDGE * weights
        return float(value) / n, np.concatenate([slope.ravel(), gap.sum(axis=0)]) / n

    start = np.zeros((width + 1) * n_labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    return np.asarray(found.x.reshape(width + 1, n_labels))


def folds_of(texts: Sequence[Text]) -> NDArray[np.int64]:
    """The fold of each text, int [N], by the digest of its words: the same whatever other texts there are."""
    keys = [f"{text.target or ''}\n{text.text}".encode("utf-8", "surrogatepass") for text in texts]
    return np.array([int(digest.of_bytes(key)[:8], 16) % N_FOLDS for key in keys])
