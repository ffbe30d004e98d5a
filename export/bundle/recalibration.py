"""Carrying thresholds and label sets over to the form that is exported.

What they promise was measured on the checkpoint's probabilities, on texts that need not be here any more. So each is moved by as
much as the probability at the same rank moved: as many validation texts pass it as before. Axes: N texts, C classes.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.decision import Conformal

Floats = NDArray[np.float64]

MIN_CLAIMS = 10  # probabilities at or above a threshold; the place of the lowest among fewer is chance


def carried_thresholds(
    thresholds: dict[str, float | None] | None, labels: list[str], reference: Floats, found: Floats
) -> dict[str, float | None] | None:
    """The thresholds at which as many validation texts are answered with each label as the checkpoint's own let pass.

    A threshold that fewer than ten texts pass stays as it is. Equal probabilities change nothing.

    Args:
        thresholds: of the checkpoint.
        labels: in output order.
        reference: the checkpoint's probabilities [N, C].
        found: those of the form that is exported, [N, C].
    """
    if thresholds is None:
        return None
    carried = {}
    for name, least in thresholds.items():
        c = labels.index(name)
        before, after = (probs[probs.argmax(axis=1) == c, c] for probs in (reference, found))
        carried[name] = None if least is None else carried_place(least, before, after)
    return carried


def carried_sets(conformal: Conformal | None, reference: Floats, found: Floats) -> Conformal | None:
    """The quantile at which the sets of all validation texts together hold as many labels as before. Args as above."""
    if conformal is None:
        return None
    least = carried_place(1 - conformal.quantile, reference.ravel(), found.ravel())
    return msgspec.structs.replace(conformal, quantile=1 - least)


def carried_place(least: float, before: Floats, after: Floats) -> float:
    """Where as many of ``after`` are at or above as of ``before`` at ``least``; from 0 to 1. Args: before [n], after [m]."""
    n_passing = int((before >= least).sum())
    if n_passing < MIN_CLAIMS or len(after) < MIN_CLAIMS:
        return least
    lowest = np.sort(before)[-n_passing]
    now = np.sort(after)[-min(n_passing, len(after))]
    return float(min(1.0, max(0.0, least + float(now - lowest))))
