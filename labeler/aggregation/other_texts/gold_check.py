"""Ask gold texts whether what other texts say makes labels worse, so that they are better left as the paths have them.

What a teacher gets wrong alike of like texts, the other texts confirm, and labels become sure of it. Without gold nothing tells
such a teacher from a good one; some dozen gold texts do. No gold text has a say about itself: what it gets is decided by the
folds without it, as by the affine map, so scores of soft labels on the same gold stay fair.

Axes: N texts, G texts with gold, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.labeler.aggregation.gold_calibration import CLEARLY, N_FOLDS, gold_folds

# The last step of a derivation: distributions, float [N, C], and gold, int [N], to distributions, float [N, C]; where it uses gold,
# what it gives a gold text does not depend on that text's own label.
Finish = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class GoldCheck:
    """What gold says about refining."""

    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    refined: NDArray[np.bool_]  # [N], whether a text's distribution is the refined one
    n_gold: int
    worse: bool  # whether refined labels are clearly worse on all gold texts; it decides about the texts without gold
    plain_error: float  # mean squared error of a gold text's distribution (Brier), 0 to 2
    refined_error: float


def checked(
    plain: NDArray[np.float64],
    refined: NDArray[np.float64],
    gold: NDArray[np.int64],
    ids: Sequence[str],
    finish: Finish,
) -> GoldCheck:
    """Take refined distributions, or plain ones where gold clearly speaks against refining.

    Compared is what comes out at the end, text by text: the mean difference in squared error must exceed CLEARLY standard errors.
    That measure notices labels that became surer than they are right, and no single text can decide.

    Args:
        plain: float [N, C], rows sum to 1: without the other texts, before the last step.
        refined: float [N, C], with them.
        gold: int [N], index of the gold label; below 0: none. At least two texts have some.
        ids: [N]; they alone decide the folds.
        finish: the last step.
    """
    known = np.flatnonzero(gold >= 0)
    errors = [_errors(finish(probs, gold)[known], gold[known]) for probs in (plain, refined)]
    worse = _clearly_worse(*errors)
    out = np.array(finish(plain if worse else refined, gold))
    took_refined = np.full(len(gold), not worse)
    folds = gold_folds([ids[i] for i in known.tolist()])
    for fold in range(N_FOLDS):
        held, rest = known[folds == fold], known[folds != fold]
        hidden = gold.copy()
        hidden[held] = -1
        found = [finish(probs, hidden) for probs in (plain, refined)]
        against = _clearly_worse(*(_errors(probs[rest], gold[rest]) for probs in found))
        out[held] = found[0 if against else 1][held]
        took_refined[held] = not against
    return GoldCheck(out, took_refined, len(known), worse, float(errors[0].mean()), float(errors[1].mean()))


def _errors(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Squared error of each text's distribution, summed over the labels, float [G], 0 to 2 (Brier 1950)."""
    return np.asarray(((probs - np.eye(probs.shape[1])[gold]) ** 2).sum(axis=1))


def _clearly_worse(plain: NDArray[np.float64], refined: NDArray[np.float64]) -> bool:
    """Whether the mean error grew by more than CLEARLY standard errors. Args: float [G] each, of the same texts."""
    growth = refined - plain
    return bool(growth.mean() > CLEARLY * growth.std(ddof=1) / np.sqrt(len(growth)))
