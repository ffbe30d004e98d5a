"""Label sets with a promised coverage, by split conformal prediction.

The quantile comes from MAPIE; a bundle only compares with it. Axes: N texts, C classes.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from mapie.conformity_scores import LACConformityScore
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.questions.decision import Conformal, LabelSource, min_calibration_texts
from potstill.contract.scores.bounds import Promise, lower_bound

_PROMISE = Promise()


@dataclass(frozen=True)
class LabelSets:
    """The quantile, and the sizes of the sets on the calibration texts."""

    conformal: Conformal
    mean_size: float  # labels in a set
    share_single: float  # of the texts: sets of one label
    share_empty: float

    def as_text(self) -> str:
        """Two lines: the sets, and what their coverage means."""
        made = self.conformal
        sizes = f"{self.mean_size:.2f} labels a text, {self.share_single:.0%} single, {self.share_empty:.0%} empty"
        lines = [f"label sets of coverage {made.coverage:g}: quantile {made.quantile:.4f} on {made.n} texts; {sizes}"]
        if made.source == "gold":
            lines.append(f"for texts like these, {coverage_note(made)} hold the label that a person would give")
        else:
            lines.append(
                f"{coverage_note(made)} hold the teacher's label, not a person's; for that: potstill calibrate CHECKPOINT GOLD"
            )
        return "\n".join(lines)


def coverage_note(made: Conformal) -> str:
    """The promised share of label sets, and whether it holds with a confidence or on average."""
    if made.confidence is None:
        return f"{made.coverage:.0%} of the sets, on average over draws of the {made.n} texts,"
    return f"at least {made.coverage:.0%} of the sets, with {made.confidence:.0%} confidence,"


def fit_label_sets(
    probs: NDArray[np.float64], truth: NDArray[np.int64], coverage: float, source: LabelSource, promise: Promise = _PROMISE
) -> LabelSets:
    """Fit the quantile of one minus the right label's probability, corrected for the finite number of texts.

    By the point rule the coverage is reached on average over draws of the texts; as a bound it is reached with the confidence:
    as many of these texts are covered as make the binomial lower bound of their share reach it.

    Args:
        probs: float [N, C]; rows sum to 1.
        truth: int [N], the class to be covered. The texts must be like those to be answered, and none of them trained on.
        coverage: above 0 and below 1.
        source: whose labels the truth is.
        promise: a bound with its confidence, or the point rule.
    Raises:
        UserError: if the coverage is out of range, or there are too few texts to promise it.
    Source: Sadinle, Lei, Wasserman 2019, Journal of the American Statistical Association 114(525), least ambiguous sets; the bound:
        Vovk 2012, arXiv:1209.2673, proposition 2.
    """
    check_coverage(coverage)
    confidence = promise.confidence if promise.rule == "bound" else None
    least = min_calibration_texts(coverage, confidence)
    if len(truth) < least:
        how = "" if confidence is None else f" with a confidence of {confidence:g}"
        raise UserError(f"label sets are fitted on {len(truth)} texts, but a coverage of {coverage:g}{how} needs at least {least}")
    score = LACConformityScore()
    scores = score.get_conformity_scores(truth, probs, y_enc=truth)  # [N, 1]
    if confidence is None:
        quantile = float(score.get_conformity_score_quantiles(scores, np.array([1 - coverage]), cv="prefit")[0])
    else:
        n_covered = bisect_left(range(len(truth) + 1), coverage, key=lambda k: lower_bound(k, len(truth), confidence))
        quantile = float(np.sort(scores[:, 0])[min(n_covered, len(truth)) - 1])
    sizes = (1 - probs <= quantile + 1e-8).sum(axis=1)  # [N]
    conformal = Conformal(
        coverage=coverage, quantile=min(1.0, max(0.0, quantile)), n=len(truth), source=source, confidence=confidence
    )
    return LabelSets(conformal, float(sizes.mean()), float((sizes == 1).mean()), float((sizes == 0).mean()))


def check_coverage(coverage: float) -> None:
    """Raise UserError unless the coverage is above 0 and below 1."""
    if not 0 < coverage < 1:
        raise UserError(f"coverage is {coverage:g}; it must be above 0 and below 1")
