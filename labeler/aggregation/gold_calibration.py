"""An affine map of log-probabilities, fitted on gold labels by multinomial logistic regression with cross-fitting.

Scale and shift of every label in log space, as supervised calibration learns them (arXiv:2505.23783): with a scale of 1 it is the
shift of batch calibration, with one scale for all labels a temperature. A prior keeps the map near the identity, so that it never
hurts where gold is scarce: the map is the most probable one after the gold texts (maximum a posteriori).

Axes: N texts, G texts with gold, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from potstill.contract.errors import UserError
from potstill.contract.files import digest

MIN_GOLD = 10
N_FOLDS = 5
CLEARLY = 2.0  # standard errors by which a mean gain or loss must differ from 0
_MIN_PROB = 1e-6
_SLOPE = 1e-9  # largest derivative at a minimum, per text; the prior bounds the curvature from below
_DESCENT = 1e-4  # required fraction of the predicted descent: Armijo's rule with its usual constant
_ROUNDING = 1e-13  # of a loss; next to the minimum a step descends by less
_MAX_STEPS, _MAX_HALVINGS = 100, 40


@dataclass(frozen=True)
class MapPrior:
    """Normal distributions around the identity, by their precisions: 1 / variance; of log-probabilities in nats.

    The defaults follow from three sets and held on four others (benchmarks/teacher/calibrations.py, docs/log.md).
    """

    scale: float = 60.0  # of the scale that all labels share; around 1
    own_scale: float = 30.0  # of what each label's own scale adds to it; around 0
    shift: float = 30.0  # of each label's shift; around 0

    def times(self, factor: float) -> MapPrior:
        """The prior with its precisions multiplied. Args: factor, above 0; below 1 it is a weaker prior."""
        return MapPrior(self.scale * factor, self.own_scale * factor, self.shift * factor)


PRIOR = MapPrior()
# The prior where gold texts clearly ask for more than PRIOR lets them have; a dozen of them seem to ask for it by chance.
WEAK_PRIOR = PRIOR.times(0.1)
WEAK_FROM = 50  # gold texts


def affine(probs: NDArray[np.float64], gold: NDArray[np.int64], ids: Sequence[str]) -> NDArray[np.float64]:
    """Map the distributions: a gold text by the map of the folds without it, any other text by the map of all gold texts.

    So the result for a gold text does not depend on its own gold label.

    Args:
        probs: float [N, C], rows sum to 1.
        gold: int [N], index of the gold label; below 0: none. At least one text has some.
        ids: [N]; they alone decide the folds.
    Returns:
        float [N, C], rows sum to 1.
    """
    x = np.log(np.clip(probs, _MIN_PROB, 1))  # [N, C]
    known = np.flatnonzero(gold >= 0)
    folds = gold_folds([ids[i] for i in known.tolist()])
    out = np.exp(_mapped(x, _fitted(x[known], gold[known], folds)))
    for fold in np.unique(folds):
        held, rest = known[folds == fold], known[folds != fold]
        if len(rest):
            out[held] = np.exp(_mapped(x[held], _fitted(x[rest], gold[rest], gold_folds([ids[i] for i in rest.tolist()]))))
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def check_gold(gold: NDArray[np.int64]) -> None:
    """Refuse too little gold to fit on. A label that no gold text has is no obstacle: the prior says how far its map may go.

    Args:
        gold: int [N], index of the gold label; below 0: none.
    Raises:
        UserError: if there are fewer than MIN_GOLD gold texts.
    """
    n_gold = int((gold >= 0).sum())
    if n_gold < MIN_GOLD:
        raise UserError(f"method affine needs at least {MIN_GOLD} texts with gold, and the run has {n_gold}; label with --gold")


def fit(x: NDArray[np.float64], gold: NDArray[np.int64], prior: MapPrior = PRIOR) -> NDArray[np.float64]:
    """Fit scale and shift of every label, float [2, C]: the unique minimum of log-loss plus prior, which is convex.

    Args:
        x: float [G, C], log-probabilities.
        gold: int [G], index of the gold label.
        prior: what is believed of the map before; its weight against the texts falls as they get more.
    """
    n_labels = x.shape[1]
    problem = _Problem(np.ascontiguousarray(x.T), np.eye(n_labels)[gold].T, prior)
    change = np.zeros(1 + 2 * n_labels)
    loss, slope, curvature = problem.at(change)
    for _ in range(_MAX_STEPS):  # Newton's method: the loss is smooth, and convex everywhere by the prior
        if np.abs(slope).max() < _SLOPE:
            break
        step = -np.linalg.solve(curvature, slope)
        for n_halvings in range(_MAX_HALVINGS):
            there = change + step / 2**n_halvings
            found = problem.at(there)
            if found[0] <= loss + _DESCENT * slope @ (there - change) + _ROUNDING:
                break
        change, (loss, slope, curvature) = there, found
    scales, shifts = problem.scales_and_shifts(change)
    return np.stack([scales, shifts])


@dataclass(frozen=True)
class _Problem:
    """The log-loss of a map plus its prior, in nats per text, as a function of the map's distance from the identity.

    The distance is K = 1 + 2 C numbers: of the shared scale, of each label's own scale from that, of each label's shift.
    """

    x: NDArray[np.float64]  # [C, G], log-probabilities
    hits: NDArray[np.float64]  # [C, G], 1 for the gold label
    prior: MapPrior

    def scales_and_shifts(self, change: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The map, float [C] each. Args: float [K]."""
        n_labels = len(self.x)
        return 1 + change[0] + change[1 : 1 + n_labels], change[1 + n_labels :]

    def at(self, change: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Loss, its gradient [K] and its matrix of second derivatives [K, K]. Args: float [K]."""
        n_labels, n = self.x.shape
        scales, shifts = self.scales_and_shifts(change)
        logits = scales[:, None] * self.x + shifts[:, None]
        logits -= logits.max(axis=0)
        probs = np.exp(logits)
        total = probs.sum(axis=0)
        probs /= total
        precisions = np.repeat([self.prior.scale, self.prior.own_scale, self.prior.shift], [1, n_labels, n_labels]) / n
        loss = float((np.log(total) - (logits * self.hits).sum(axis=0)).mean() + precisions @ change**2 / 2)
        gap, scaled = probs - self.hits, probs * self.x
        slopes = np.concatenate([(gap * self.x).mean(axis=1), gap.mean(axis=1)])  # by scales, then shifts
        of_scales = np.diag((scaled * self.x).mean(axis=1)) - _products(scaled, scaled) / n  # [C, C]
        mixed = np.diag(scaled.mean(axis=1)) - _products(scaled, probs) / n
        of_shifts = np.diag(probs.mean(axis=1)) - _products(probs, probs) / n
        curvature = np.block([[of_scales, mixed], [mixed.T, of_shifts]])
        slopes, curvature = _with_shared_scale(slopes, curvature)
        return loss, slopes + precisions * change, curvature + np.diag(precisions)


def _with_shared_scale(
    slopes: NDArray[np.float64], curvature: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add the derivatives by a scale that all labels share: it moves them all. Args: float [2 C]; float [2 C, 2 C]."""
    n_labels = len(slopes) // 2
    row = curvature[:n_labels].sum(axis=0)
    corner = row[:n_labels].sum()
    return (
        np.concatenate([slopes[:n_labels].sum(keepdims=True), slopes]),
        np.block([[np.array([[corner]]), row[None, :]], [row[:, None], curvature]]),
    )


def _products(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of all rows, float [C, C], without BLAS: its threads take longer to start than a handful of sums."""
    return np.asarray(np.einsum("in,jn->ij", one, other))


def _mapped(x: NDArray[np.float64], scale_and_shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities after the map, float [N, C]."""
    return np.asarray(log_softmax(scale_and_shift[0] * x + scale_and_shift[1], axis=1))


def _fitted(x: NDArray[np.float64], gold: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fit the map, with the weak prior only where it is clearly better on held-out folds of many texts."""
    if len(x) < WEAK_FROM:
        return fit(x, gold)
    gain = _held_out_losses(x, gold, folds, PRIOR) - _held_out_losses(x, gold, folds, WEAK_PRIOR)  # [G], in nats
    clear = gain.mean() > CLEARLY * gain.std() / np.sqrt(len(gain))
    return fit(x, gold, WEAK_PRIOR if clear else PRIOR)


def _held_out_losses(
    x: NDArray[np.float64], gold: NDArray[np.int64], folds: NDArray[np.int64], prior: MapPrior
) -> NDArray[np.float64]:
    """Every text's log-loss under the map of the other folds, float [G], in nats."""
    losses = np.zeros(len(x))
    for fold in np.unique(folds):
        held = folds == fold
        logprobs = _mapped(x[held], fit(x[~held], gold[~held], prior))
        losses[held] = -logprobs[np.arange(held.sum()), gold[held]]
    return losses


def gold_folds(ids: Sequence[str]) -> NDArray[np.int64]:
    """Fold of each text, int [G], from 0 to N_FOLDS - 1, of equal size, assigned by the ids' digests, not by labels."""
    order = sorted(range(len(ids)), key=lambda i: digest.of_bytes(ids[i].encode("utf-8", "surrogatepass")))
    folds = np.empty(len(ids), dtype=np.int64)
    folds[order] = np.arange(len(ids)) % N_FOLDS
    return folds
