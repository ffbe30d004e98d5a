"""How often people are right, as far as their labels and the teacher's soft labels show it, and what both say together.

A person names the true label with the probability r, and else any other label alike: what people say of a text whose true label
has the probabilities p is label y with the probability r p(y) + (1 - r) (1 - p(y)) / (C - 1). The teacher's soft labels stand in
for p once they are flattened by a temperature: a small teacher is surer than it is right, and without the temperature every
contradiction would be held against the person (on Reddit stance people who were always right came out as right on 69 %). Both
numbers are estimated together, by their posterior means.
Axes: N texts, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import PeopleRight

# Before any label was seen: people agree with each other on about 70 % of texts (arXiv:2212.11311), which of three labels is what
# people do who are right on 82 %. It counts as much as PRIOR_LABELS labels, and the temperature is within a factor of 2 of 1.
PRIOR_SHARE, PRIOR_LABELS = 0.8, 10.0
PRIOR_TEMPERATURE_SPREAD = 0.7  # standard deviation of its logarithm
_TEMPERATURES = np.geomspace(0.5, 5.0, 19)
_MARGIN = 0.01  # people are taken to be better than chance, and nobody to be always right, by so much
_N_SHARES = 99
_INTERVAL = (0.025, 0.975)


def how_often_right(teacher: NDArray[np.float64], given: NDArray[np.int64], stated: float | None = None) -> PeopleRight:
    """Estimate how often people are right, and the temperature of the teacher.

    Args:
        teacher: float [N, C], soft labels of the texts that people labelled; rows sum to 1. N may be 0: then the prior speaks.
        given: int [N], the class that a person named for each.
        stated: how often people are right, above 1/C, to 1; then only the temperature is estimated. None: nobody knows.
    """
    chance = 1 / teacher.shape[1]
    shares = np.linspace(chance + _MARGIN, 1 - _MARGIN, _N_SHARES) if stated is None else np.array([stated])
    log_posterior = np.empty((len(_TEMPERATURES), len(shares)))
    for t, temperature in enumerate(_TEMPERATURES):
        named = flattened(teacher, temperature)[np.arange(len(given)), given][:, None]
        said = named * shares + (1 - named) * (1 - shares) * chance / (1 - chance)
        log_posterior[t] = np.log(np.maximum(said, np.finfo(float).tiny)).sum(axis=0)
    log_posterior -= 0.5 * (np.log(_TEMPERATURES)[:, None] / PRIOR_TEMPERATURE_SPREAD) ** 2
    if stated is None:
        log_posterior += PRIOR_LABELS * (PRIOR_SHARE * np.log(shares) + (1 - PRIOR_SHARE) * np.log(1 - shares))
    weights = np.exp(log_posterior - log_posterior.max())
    weights /= weights.sum()
    of_shares = weights.sum(axis=0)
    low, high = (float(np.interp(q, of_shares.cumsum(), shares)) for q in _INTERVAL)
    return PeopleRight(
        share=float(of_shares @ shares),
        interval=None if stated is not None else (low, high),
        temperature=float(np.exp(weights.sum(axis=1) @ np.log(_TEMPERATURES))),
        n_compared=len(given),
    )


def weighed(teacher: NDArray[np.float64], given: NDArray[np.int64], right: PeopleRight) -> NDArray[np.float64]:
    """What teacher and people say together, float [N, C]; rows sum to 1: Bayes' rule, with the teacher's label as the prior.

    Args:
        teacher: float [N, C]; rows sum to 1.
        given: int [N], the class that a person named for each.
    """
    n_labels = teacher.shape[1]
    evidence = np.full(teacher.shape, (1 - right.share) / (n_labels - 1))
    evidence[np.arange(len(given)), given] = right.share
    found = np.maximum(flattened(teacher, right.temperature), np.finfo(float).eps) * evidence  # what the teacher rules out, too
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def flattened(probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """The distributions at a temperature, above 0; float [N, C]. 1 changes nothing, larger is flatter."""
    found = probs ** (1 / temperature)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
