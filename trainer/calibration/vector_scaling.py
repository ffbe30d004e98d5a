"""Vector scaling: a factor and a bias for every class, used where they beat one temperature.

Both go into the student's last layer, so that checkpoint and bundle need no further numbers. Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from potstill.trainer.calibration.temperature import minimize_nll
from potstill.trainer.students.encoder import Encoder, last_layer
from potstill.trainer.students.tokenizer import EncodedText

MIN_TEXTS = 200  # two numbers a class; on fewer texts they fit noise
N_FOLDS = 5
LARGEST_LOG_FACTOR = 3.0  # about 20 times, nearly the bounds of the temperature
LARGEST_BIAS = 10.0  # of a logit: odds of more than 20,000
FOLD_TOLERANCE = 1e-4  # between logits scaled outside and inside the last layer, relative to the largest

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VectorScaling:
    """logits * factors + bias, or the reason why it is not used."""

    factors: tuple[float, ...]  # [C], above 0
    bias: tuple[float, ...]  # [C]
    gain: float  # nats a text that it saves over a temperature, on texts that neither was fitted on
    error: float  # standard error of the gain
    reason: str = ""  # empty: used

    def as_text(self) -> str:
        """`used: log-loss 0.021 below ...`, or `not used: ...`."""
        if self.reason:
            return f"not used: {self.reason}"
        return (
            f"used: log-loss {self.gain:.4f} below that of a temperature, across {N_FOLDS} folds (standard error {self.error:.4f})"
        )

    def scaled(self, logits: _Floats) -> _Floats:
        """float64 [N, C]: the scaled logits. Args: logits float [N, C]."""
        return np.asarray(logits * np.array(self.factors) + np.array(self.bias))


def fit_vector_scaling(logits: _Floats, targets: _Floats) -> VectorScaling:
    """Fit factors and biases, if they beat a temperature on texts left out.

    Args:
        logits: float [N, C], finite.
        targets: float [N, C], rows sum to 1.
    Returns:
        A scaling; its reason is empty only if its cross-validated log-loss is lower by more than the standard error.
    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2, with factors above 0.
    """
    n, n_classes = logits.shape
    if n < MIN_TEXTS:
        return _unused(n_classes, 0.0, 0.0, f"{n} validation texts, at least {MIN_TEXTS} are needed")
    gains = _gains(logits, targets)
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(n))
    if not gain > error:
        compared = f"across {N_FOLDS} folds it saves {gain:.4f} nats a text (standard error {error:.4f})"
        return _unused(n_classes, gain, error, compared)
    factors, bias = fit_factors_and_bias(logits, targets)
    return VectorScaling(tuple(factors.tolist()), tuple(bias.tolist()), gain, error)


def fit_factors_and_bias(logits: _Floats, targets: _Floats) -> tuple[_Floats, _Floats]:
    """(factors [C], bias [C]) of the lowest cross-entropy; the biases sum to 0. Args: logits, targets float [N, C]."""
    n, n_classes = logits.shape
    start = np.concatenate([np.full(n_classes, -np.log(minimize_nll(logits, targets)[0])), np.zeros(n_classes)])
    start[:n_classes] = np.clip(start[:n_classes], -LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)

    def loss(parameters: _Floats) -> tuple[float, _Floats]:
        """Cross-entropy in nats, and its gradient."""
        factors = np.exp(parameters[:n_classes])
        log_probs = log_softmax(logits * factors + parameters[n_classes:], axis=1)
        error = np.exp(log_probs) - targets  # [N, C], the gradient by the scaled logits
        gradient = np.concatenate([(error * logits).mean(axis=0) * factors, error.mean(axis=0)])
        return float(-(targets * log_probs).sum() / n), gradient

    bounds = [(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)] * n_classes + [(-LARGEST_BIAS, LARGEST_BIAS)] * n_classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    bias = found[n_classes:]
    return np.exp(found[:n_classes]), bias - bias.mean()  # adding one number to all of them changes nothing


def fold_into_last_layer(encoder: Encoder, scaling: VectorScaling, features: Sequence[EncodedText]) -> str:
    """Put the scaling into the student's last layer. Returns "", or the reason why that failed; then the student is unchanged.

    Args:
        encoder: changed in place.
        features: at least one text; the new logits are checked on them.
    """
    layer = last_layer(encoder.model)
    if layer is None:
        return "the student's last layer cannot take factors"
    before = encoder.logits(features).astype(np.float64)
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        factors = torch.tensor(scaling.factors, dtype=layer.weight.dtype, device=layer.weight.device)
        layer.weight.mul_(factors[:, None])
        layer.bias.mul_(factors).add_(torch.tensor(scaling.bias, dtype=factors.dtype, device=factors.device))
    wanted = scaling.scaled(before)
    if np.abs(encoder.logits(features) - wanted).max() <= FOLD_TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        return ""
    layer.load_state_dict(kept)
    return "the student's logits are not the outputs of its last layer"


def _gains(logits: _Floats, targets: _Floats) -> _Floats:
    """float64 [N]: nats that vector scaling saves on each text, with both fitted on the other folds."""
    n = len(logits)
    fold_of = np.random.default_rng(0).permutation(n) % N_FOLDS
    gains = np.empty(n)
    for number in range(N_FOLDS):
        out, rest = fold_of == number, fold_of != number
        temperature, _ = minimize_nll(logits[rest], targets[rest])
        factors, bias = fit_factors_and_bias(logits[rest], targets[rest])
        plain = log_softmax(logits[out] / temperature, axis=1)
        gains[out] = (targets[out] * (log_softmax(logits[out] * factors + bias, axis=1) - plain)).sum(axis=1)
    return gains


def _unused(n_classes: int, gain: float, error: float, reason: str) -> VectorScaling:
    """A scaling that changes nothing."""
    return VectorScaling((1.0,) * n_classes, (0.0,) * n_classes, gain, error, reason)
