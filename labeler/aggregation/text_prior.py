"""Refine soft labels by what all other texts say: a cross-fitted linear model of the labels, as a prior for each text.

A teacher's answer to a text is evidence about that text alone. Texts that lie close together mostly have the same label, so a
model that has learned the labels of the others knows something of this one that its own answer does not say. Bayes' rule joins the
two: prior times evidence. Raykar et al. 2010 ("Learning from crowds", JMLR 11) do so with a classifier and several annotators. Two
things differ here: every text's prior comes from a model that has not seen it (cross-fitting: no error confirms itself), and the
evidence is the teacher's calibrated probabilities instead of a table of confusions.

Axes: N texts, H width, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from potstill.contract.files import digest
from potstill.contract.texts import Text
from potstill.labeler.aggregation.calibration import batch_calibrated

MIN_TEXTS = 200  # with fewer, nothing was gained by it (docs/log.md)
ROUNDS = 2  # the refined labels teach the next prior; more rounds made labels surer than they are right
N_FOLDS = 5
RIDGE = 2.0  # penalty of half the squared weights, next to the sum of the texts' losses; from 0.5 to 8 little changed
_MAX_ITERATIONS = 60
_TINY = 1e-12


def refined(probs: NDArray[np.float64], vectors: NDArray[np.float32], texts: Sequence[Text]) -> NDArray[np.float64]:
    """Multiply each text's distribution with what the other texts say of it, keeping the labels' mean shares.

    Args:
        probs: float [N, C], rows sum to 1: the teacher's evidence.
        vectors: float32 [N, H], embeddings of the texts, rows of length 1.
        texts: [N]; equal ones are always in the same fold.
    Returns:
        float [N, C], rows sum to 1; the column means are those of `probs`.
    """
    shares = np.clip(probs.mean(axis=0), _TINY, 1)
    shares = shares / shares.sum()
    evidence, log_shares = np.log(np.clip(probs, _TINY, 1)), np.log(shares)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    folds, found = folds_of(texts), probs
    for _ in range(ROUNDS):
        prior = batch_calibrated(cross_fitted(centred, found, folds), shares)
        found = np.exp(batch_calibrated(log_softmax(prior + evidence - log_shares, axis=1), shares))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def cross_fitted(vectors: NDArray[np.float64], probs: NDArray[np.float64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-probabilities of the labels from models that were fitted on the other folds, float [N, C], normalised over C.

    Args:
        vectors: float [N, H], with mean 0.
        probs: float [N, C], the targets; rows sum to 1.
        folds: int [N].
    """
    out = np.empty_like(probs)
    for fold in np.unique(folds):
        held = folds == fold
        weights = fit(vectors[~held], probs[~held])
        out[held] = vectors[held] @ weights[:-1] + weights[-1]
    return np.asarray(log_softmax(out, axis=1))


def fit(vectors: NDArray[np.float64], probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit a multinomial logistic regression to distributions: the cross-entropy with RIDGE, the biases free.

    Returns:
        float [H + 1, C]: a row of weights for each direction, then the biases.
    """
    n, width = vectors.shape
    n_labels = probs.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Penalised mean loss in nats, and its gradient."""
        weights, biases = flat[:-n_labels].reshape(width, n_labels), flat[-n_labels:]
        logprobs = log_softmax(vectors @ weights + biases, axis=1)
        gap = np.exp(logprobs) - probs
        value = -(probs * logprobs).sum() + RIDGE / 2 * (weights**2).sum()
        slope = vectors.T @ gap + RIDGE * weights
        return float(value) / n, np.concatenate([slope.ravel(), gap.sum(axis=0)]) / n

    start = np.zeros((width + 1) * n_labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    return np.asarray(found.x.reshape(width + 1, n_labels))


def folds_of(texts: Sequence[Text]) -> NDArray[np.int64]:
    """The fold of each text, int [N], by the digest of its words: the same whatever other texts there are."""
    keys = [f"{text.target or ''}\n{text.text}".encode("utf-8", "surrogatepass") for text in texts]
    return np.array([int(digest.of_bytes(key)[:8], 16) % N_FOLDS for key in keys])
