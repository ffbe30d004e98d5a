"""An affine map of log-probabilities, fitted on gold labels by multinomial logistic regression with cross-fitting.

Scale and shift of every label in log space, as supervised calibration learns them (arXiv:2505.23783): with a scale of 1 it is the
shift of batch calibration, with one scale for all labels a temperature.

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
# Penalties to choose from by cross-validation, in nats per text and squared distance from the identity map.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
CLEARLY = 2.0  # standard errors by which the mean gain must exceed 0
_MIN_PROB = 1e-6
_SLOPE = 1e-9  # largest derivative at a minimum; the penalty bounds the curvature from below
_DESCENT = 1e-4  # required fraction of the predicted descent: Armijo's rule with its usual constant
_ROUNDING = 1e-13  # of a loss; next to the minimum a step descends by less
_MAX_STEPS, _MAX_HALVINGS = 100, 40


def affine(probs: NDArray[np.float64], gold: NDArray[np.int64], ids: list[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """Map the distributions: a gold text by the map of the folds without it, any other text by the map of all gold texts.

    So the result for a gold text does not depend on its own gold label.

    Args:
        probs: float [N, C], rows sum to 1.
        gold: int [N], index of the gold label; below 0: none.
        ids: [N]; they alone decide the folds.
        labels: [C], for error messages.
    Returns:
        float [N, C], rows sum to 1.
    Raises:
        UserError: if there are fewer than 10 gold texts, or none of some label.
    """
    check_gold(gold, labels)
    x = np.log(np.clip(probs, _MIN_PROB, 1))  # [N, C]
    known = np.flatnonzero(gold >= 0)
    folds = _folds([ids[i] for i in known])
    out = np.exp(_mapped(x, _fitted(x[known], gold[known], folds)))
    for fold in range(N_FOLDS):
        held, rest = known[folds == fold], known[folds != fold]
        if len(held):
            out[held] = np.exp(_mapped(x[held], _fitted(x[rest], gold[rest], _folds([ids[i] for i in rest]))))
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def check_gold(gold: NDArray[np.int64], labels: Sequence[str]) -> None:
    """Refuse too little gold to fit on.

    Args:
        gold: int [N], index of the gold label; below 0: none.
        labels: [C], for error messages.
    Raises:
        UserError: if there are fewer than MIN_GOLD gold texts, or none of some label.
    """
    counts = np.bincount(gold[gold >= 0], minlength=len(labels))
    n_gold = counts.sum()
    if n_gold < MIN_GOLD:
        raise UserError(f"method affine needs at least {MIN_GOLD} texts with gold, and the run has {n_gold}; label with --gold")
    for name, count in zip(labels, counts, strict=True):
        if not count:
            raise UserError(f"method affine needs gold texts of every label, and none of the {n_gold} is {name!r}; add some")


def fit(x: NDArray[np.float64], gold: NDArray[np.int64], penalty: float, *, one_scale: bool = False) -> NDArray[np.float64]:
    """Fit scale and shift of every label, float [2, C]: the unique minimum of log-loss plus penalty, which is convex.

    Args:
        x: float [G, C], log-probabilities.
        gold: int [G], index of the gold label.
        penalty: above 0, on half the squared distance from scale 1 and shift 0; the larger, the closer to the identity.
        one_scale: whether all labels share one scale, a temperature.
    """
    problem = _Problem(np.ascontiguousarray(x.T), np.eye(x.shape[1])[gold].T, penalty, one_scale)
    change = np.zeros(problem.n_scales + x.shape[1])  # from scale 1 and shift 0
    loss, slope, curvature = problem.at(change)
    for _ in range(_MAX_STEPS):  # Newton's method: the loss is smooth, and convex everywhere by the penalty
        if np.abs(slope).max() < _SLOPE:
            break
        step = -np.linalg.solve(curvature, slope)
        for n_halvings in range(_MAX_HALVINGS):
            there = change + step / 2**n_halvings
            found = problem.at(there)
            if found[0] <= loss + _DESCENT * slope @ (there - change) + _ROUNDING:
                break
        change, (loss, slope, curvature) = there, found
    n_scales, n_labels = problem.n_scales, x.shape[1]
    return np.stack([1 + np.broadcast_to(change[:n_scales], n_labels), change[n_scales:]])


@dataclass(frozen=True)
class _Problem:
    """The penalised log-loss of a map as a function of its distance from the identity: of the scale or scales, then the shifts."""

    x: NDArray[np.float64]  # [C, G], log-probabilities
    hits: NDArray[np.float64]  # [C, G], 1 for the gold label
    penalty: float
    one_scale: bool

    @property
    def n_scales(self) -> int:
        """1, or one for each label."""
        return 1 if self.one_scale else len(self.x)

    def at(self, change: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Loss, its gradient [K] and its matrix of second derivatives [K, K]. Args: float [K], K scales and shifts."""
        n, m = self.x.shape[1], self.n_scales
        logits = (1 + change[:m, None]) * self.x + change[m:, None]
        logits -= logits.max(axis=0)
        probs = np.exp(logits)
        total = probs.sum(axis=0)
        probs /= total
        loss = float((np.log(total) - (logits * self.hits).sum(axis=0)).mean() + self.penalty / 2 * change @ change)
        gap, scaled = probs - self.hits, probs * self.x
        slope = np.concatenate([self._of_scales((gap * self.x).mean(axis=1)), gap.mean(axis=1)]) + self.penalty * change
        scales = np.diag((scaled * self.x).mean(axis=1)) - _products(scaled, scaled) / n  # [C, C]
        mixed = np.diag(scaled.mean(axis=1)) - _products(scaled, probs) / n
        shifts = np.diag(probs.mean(axis=1)) - _products(probs, probs) / n
        if self.one_scale:
            scales, mixed = scales.sum(keepdims=True), mixed.sum(axis=0, keepdims=True)
        return loss, slope, np.block([[scales, mixed], [mixed.T, shifts]]) + self.penalty * np.eye(len(change))

    def _of_scales(self, by_label: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives by the scales, from those by each label's scale. Args: float [C]."""
        return by_label.sum(keepdims=True) if self.one_scale else by_label


def _products(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of all rows, float [C, C], without BLAS: its threads take longer to start than a handful of sums."""
    return np.asarray(np.einsum("in,jn->ij", one, other))


def _mapped(x: NDArray[np.float64], scale_and_shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities after the map, float [N, C]."""
    return np.asarray(log_softmax(scale_and_shift[0] * x + scale_and_shift[1], axis=1))


def _fitted(x: NDArray[np.float64], gold: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fit the map that does best on held-out folds of these texts; one scale per label only where that is clearly better.

    With a few dozen gold texts every further parameter costs more than it brings (docs/log.md).
    """
    shared, shared_losses = _best_penalty(x, gold, folds, one_scale=True)
    own, own_losses = _best_penalty(x, gold, folds, one_scale=False)
    gain = shared_losses - own_losses  # [G], in nats
    one_scale = bool(gain.mean() <= CLEARLY * gain.std() / np.sqrt(len(gain)))
    return fit(x, gold, shared if one_scale else own, one_scale=one_scale)


def _best_penalty(
    x: NDArray[np.float64], gold: NDArray[np.int64], folds: NDArray[np.int64], *, one_scale: bool
) -> tuple[float, NDArray[np.float64]]:
    """The penalty with the lowest log-loss on held-out folds, and every text's loss there, float [G]."""
    best, best_losses = 0.0, np.full(len(x), np.inf)
    for penalty in PENALTIES:
        losses = np.zeros(len(x))
        for fold in np.unique(folds):
            held = folds == fold
            logprobs = _mapped(x[held], fit(x[~held], gold[~held], penalty, one_scale=one_scale))
            losses[held] = -logprobs[np.arange(held.sum()), gold[held]]
        if losses.mean() <= best_losses.mean():  # of equals the later, which is closer to the identity
            best, best_losses = penalty, losses
    return best, best_losses


def _folds(ids: list[str]) -> NDArray[np.int64]:
    """Fold of each text, int [G], from 0 to N_FOLDS - 1, of equal size, assigned by the ids' digests, not by labels."""
    order = sorted(range(len(ids)), key=lambda i: digest.of_bytes(ids[i].encode("utf-8", "surrogatepass")))
    folds = np.empty(len(ids), dtype=np.int64)
    folds[order] = np.arange(len(ids)) % N_FOLDS
    return folds
