"""How often people are right, as far as their labels and the teacher's soft labels show it, and what both say together.

A person names the true label with the probability r, and else any other label alike: what people say of a text whose true label
has the probabilities p is label y with the probability r p(y) + (1 - r) (1 - p(y)) / (C - 1). The teacher's soft labels stand in
for p once they are recalibrated, by a temperature and a bias for each label: a small teacher is surer than it is right, and gives
some labels too often. Taken at its word, every contradiction would be held against the people: those who were always right came
out as right on 69 % (Reddit stance). All numbers are estimated together: for each r of a grid the temperature and biases that fit
best, and of r the posterior mean over the grid.
Axes: N texts, C labels, R shares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from potstill.contract.checkpoint import PeopleRight

# Before any label was seen: people agree with each other on about 70 % of texts (arXiv:2212.11311), which of three labels is what
# people do who are right on 82 %. It counts as much as PRIOR_LABELS labels. The temperature is within a factor of 2 of 1, and a
# bias within 1 of 0 (standard deviations; with 2 for the biases the students on three sets were as good).
PRIOR_SHARE, PRIOR_LABELS = 0.8, 10.0
PRIOR_LOG_TEMPERATURE, PRIOR_BIAS = 0.7, 1.0
_MARGIN = 0.01  # people are taken to be better than chance, and nobody to be always right, by so much
_N_SHARES = 33
_INTERVAL = (0.025, 0.975)
_LEAST = 1e-6  # probability of a label that the teacher rules out


def how_often_right(teacher: NDArray[np.float64], given: NDArray[np.int64], stated: float | None = None) -> PeopleRight:
    """Estimate how often people are right, and what recalibrates the teacher.

    Args:
        teacher: float [N, C], soft labels of the texts that people labelled; rows sum to 1. N may be 0: then the prior speaks.
        given: int [N], the class that a person named for each.
        stated: how often people are right, above 1/C, to 1; then only the recalibration is estimated. None: nobody knows.
    """
    chance = 1 / teacher.shape[1]
    shares = np.linspace(1 - _MARGIN, chance + _MARGIN, _N_SHARES) if stated is None else np.array([stated])
    logs, start = np.log(np.maximum(teacher, _LEAST)), np.zeros(1 + teacher.shape[1])
    settings, log_posterior = [], np.empty(len(shares))
    for i, share in enumerate(shares):
        start, log_posterior[i] = _recalibration(logs, given, float(share), start)  # from that of the share before: it is near
        settings.append(start)
    if stated is None:
        log_posterior += PRIOR_LABELS * (PRIOR_SHARE * np.log(shares) + (1 - PRIOR_SHARE) * np.log(1 - shares))
    weights = np.exp(log_posterior - log_posterior.max())
    weights /= weights.sum()
    low, high = (float(np.interp(q, weights[::-1].cumsum(), shares[::-1])) for q in _INTERVAL)
    mean = weights @ np.array(settings)
    return PeopleRight(
        share=float(weights @ shares) if stated is None else stated,
        interval=None if stated is not None else (low, high),
        temperature=float(np.exp(mean[0])),
        bias=[float(value) for value in mean[1:]],
        n_compared=len(given),
    )


def weighed(teacher: NDArray[np.float64], given: NDArray[np.int64], right: PeopleRight) -> NDArray[np.float64]:
    """What teacher and people say together, float [N, C]; rows sum to 1: Bayes' rule, with the recalibrated teacher as the prior.

    Args:
        teacher: float [N, C]; rows sum to 1.
        given: int [N], the class that a person named for each.
    """
    return after_people(recalibrated(teacher, right), given, right)


def after_people(prior: NDArray[np.float64], given: NDArray[np.int64], right: PeopleRight) -> NDArray[np.float64]:
    """A prior, float [N, C] with rows that sum to 1, after people named a label for each; the same shape."""
    evidence = np.full(prior.shape, (1 - right.share) / (prior.shape[1] - 1))
    evidence[np.arange(len(given)), given] = right.share
    found = prior * evidence
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def recalibrated(teacher: NDArray[np.float64], right: PeopleRight) -> NDArray[np.float64]:
    """Soft labels, float [N, C], at the temperature and with the biases that were estimated; rows sum to 1, none is 0."""
    return _softmax(np.log(np.maximum(teacher, _LEAST)) / right.temperature + np.array(right.bias))


def _recalibration(
    logs: NDArray[np.float64], given: NDArray[np.int64], share: float, start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """(log-temperature and biases that fit best if people are right that often, [1 + C]; their log-posterior).

    Args:
        logs: float [N, C], logarithms of the soft labels.
        start: where the search begins, [1 + C].
    """
    n_labels = logs.shape[1]
    wrong = (1 - share) / (n_labels - 1)
    named = np.eye(n_labels)[given]
    spread = np.array([PRIOR_LOG_TEMPERATURE, *[PRIOR_BIAS] * n_labels])

    def loss(settings: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Minus the log-posterior, and its gradient."""
        probs = _softmax(logs * np.exp(-settings[0]) + settings[1:])
        of_named = (probs * named).sum(axis=1)
        said = np.maximum(wrong + (share - wrong) * of_named, np.finfo(float).tiny)
        slope = ((share - wrong) * of_named / said)[:, None] * (named - probs)  # by logit
        gradient = np.array([-(slope * logs).sum() * np.exp(-settings[0]), *slope.sum(axis=0)])
        return float(0.5 * ((settings / spread) ** 2).sum() - np.log(said).sum()), settings / spread**2 - gradient

    found = minimize(loss, start, jac=True, method="L-BFGS-B")
    return found.x, -float(found.fun)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits, float [N, C]."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
