"""Weights of the prompt variants, estimated without gold from their agreement beyond chance.

The one-coin model of Dawid and Skene (1979, Applied Statistics 28(1)): a variant knows the label of a share `skill` of the texts
and guesses the others. The agreement of two variants beyond chance is then the product of their skills, so the skills are the
rank-one factor of the agreement matrix without its diagonal (Ma, Olshevsky, Saligrama, Szepesvari 2017, arXiv:1706.06660). Common
errors, which prompts of one teacher have, raise all skills alike; expectation-maximisation would become certain of them.

Axes: N texts, V variants, C labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ABSENT = -1  # the vote of a variant that was not asked about a text
MIN_VARIANTS = 3  # two variants give one agreement for two skills
_MIN_TEXTS = 30  # with fewer, an agreement is mostly noise
_MAX_SKILL = 0.99  # a variant without errors would have an infinite weight
_MAX_STEPS, _TOLERANCE = 500, 1e-10


def variant_weights(votes: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """Weigh every variant for every text.

    Later variants may have been asked only about uncertain texts, on which every variant errs more. So variants are compared on the
    texts they have in common, once for every set of variants that occurs.

    Args:
        votes: int [N, V], each variant's most probable label, or ABSENT.
    Returns:
        float [N, V], at least 0, with mean 1 over each text's variants; 0 where a variant is absent. Equal weights where fewer than
        3 variants were asked, fewer than 30 texts can be compared, or no variant agrees with another beyond chance.
    """
    asked = votes != ABSENT  # [N, V]
    weights = np.zeros(votes.shape)
    sets, members = np.unique(asked, axis=0, return_inverse=True)
    for number, chosen in enumerate(sets):
        common = asked[:, chosen].all(axis=1)
        own = np.ones(int(chosen.sum()))
        if chosen.sum() >= MIN_VARIANTS and common.sum() >= _MIN_TEXTS:
            found = log_odds(skills(votes[np.ix_(common, chosen)], n_labels), n_labels)
            own = found / found.mean() if found.any() else own
        weights[np.ix_(members.ravel() == number, chosen)] = own
    return weights


def skills(votes: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """Share of the texts whose label each variant knows rather than guesses, float [V], from 0 to 0.99.

    Args:
        votes: int [N, V], none absent; at least 3 variants.
    """
    n_variants = votes.shape[1]
    beyond = np.zeros((n_variants, n_variants))  # Cohen's kappa of every pair
    shares = np.stack([np.bincount(column, minlength=n_labels) / len(votes) for column in votes.T])  # [V, C]
    for i in range(n_variants):
        for j in range(i):
            chance = float(shares[i] @ shares[j])  # expected agreement of independent votes with these shares
            agreement = float(np.mean(votes[:, i] == votes[:, j]))
            beyond[i, j] = beyond[j, i] = (agreement - chance) / (1 - chance) if chance < 1 else 0.0
    skill = np.full(n_variants, np.sqrt(np.clip(beyond.sum() / (n_variants * (n_variants - 1)), 1e-3, 1)))
    for _ in range(_MAX_STEPS):
        before = skill.copy()
        for i in range(n_variants):  # least squares in one skill with the others fixed; each step lowers the error
            others = np.arange(n_variants) != i
            norm = float(skill[others] @ skill[others])
            skill[i] = np.clip(beyond[i, others] @ skill[others] / norm, 0, _MAX_SKILL) if norm > 0 else 0.0
        if np.abs(skill - before).max() < _TOLERANCE:
            break
    return skill


def log_odds(skill: NDArray[np.float64], n_labels: int) -> NDArray[np.float64]:
    """The weight of a vote under the one-coin model, float [V]: log-odds (nats) of its label against any other; 0 for a guess.

    Args:
        skill: float [V], at least 0 and below 1.
    Source: Nitzan and Paroush 1982, International Economic Review 23(2), for two labels; with C labels a variant is right with
        probability skill + (1 - skill) / C and gives each wrong label with probability (1 - skill) / C.
    """
    return np.asarray(np.log((1 + (n_labels - 1) * skill) / (1 - skill)))
