"""From stored paths to soft labels: votes, agreement and a distribution per text, derived without a new token.

Axes: P paths, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from contract.errors import UserError
from contract.soft_label import SoftLabel, entropy
from contract.texts import Text
from labeler.calibrate import batch_calibrated, label_logprobs, sharpened
from labeler.paths import TeacherPath
from labeler.store import LabelStore, Run, RunSettings

Method = Literal["calibrated", "mean", "votes"]
METHODS: tuple[str, ...] = get_args(Method)
# Read without a rationale, a calibrated teacher is less sure than it is right; squaring brought log-loss and calibration error on
# gold to their lowest with the embedded teacher, and after a rationale nothing was to be gained (docs/log.md).
SHARPNESS = {"direct": 2.0, "cot": 1.0}


@dataclass(frozen=True)
class PathTable:
    """All paths of a run as arrays."""

    text_ids: list[str]  # [P]
    variants: NDArray[np.int64]  # [P]
    logprobs: NDArray[np.float64]  # [P, C], normalised over the labels
    mass: NDArray[np.float64]  # [P], probability of any label word at all


def soft_labels(store: LabelStore, run: Run, method: Method = "calibrated", ids: Sequence[str] | None = None) -> list[SoftLabel]:
    """One soft label for every text with paths.

    Methods:
        calibrated: each variant's probabilities are batch-calibrated over all texts of the run, sharpened, then averaged over a
            text's paths; a path votes for its calibrated favourite.
        mean: the exact probabilities, averaged; a path votes for its favourite.
        votes: the share of paths that voted for each label, as in arXiv 2212.11311.

    Args:
        ids: the wanted texts, in the wanted order; None means all, in the order of their ids. Calibration always uses all.
    Raises:
        UserError: if the run holds no path.
    """
    paths = list(store.paths(run))
    if not paths:
        raise UserError(f"{store.path}: holds no path of this run yet; run: potstill label")
    table = path_table(paths, run)
    per_path = calibrated(table, run.settings) if method == "calibrated" else table.logprobs
    texts = store.texts()
    rows: dict[str, list[int]] = {}
    for row, text_id in enumerate(table.text_ids):
        rows.setdefault(text_id, []).append(row)
    combine = _vote_shares if method == "votes" else _mean
    wanted = [text_id for text_id in (rows if ids is None else ids) if text_id in rows]
    return [_soft_label(texts[i], per_path[rows[i]], table.mass[rows[i]], run, method, combine) for i in wanted]


def path_table(paths: Sequence[TeacherPath], run: Run) -> PathTable:
    """The paths as arrays, label words summed into labels."""
    words = np.array([path.word_logprobs for path in paths], dtype=np.float64)
    labels = label_logprobs(words, run.settings.word_labels, len(run.settings.labels))
    mass = np.exp(logsumexp(labels, axis=1))
    return PathTable(
        [p.text_id for p in paths], np.array([p.variant for p in paths]), np.asarray(log_softmax(labels, axis=1)), mass
    )


def calibrated(table: PathTable, settings: RunSettings) -> NDArray[np.float64]:
    """Log-probabilities [P, C], batch-calibrated within each prompt variant (each has habits of its own) and sharpened."""
    out = np.empty_like(table.logprobs)
    for variant in np.unique(table.variants):
        rows = table.variants == variant
        out[rows] = sharpened(batch_calibrated(table.logprobs[rows]), SHARPNESS[settings.mode_of(int(variant))])
    return out


Combine = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def _mean(logprobs: NDArray[np.float64], _votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean probability over the paths, float [C]: the expectation of the vote, without the noise of voting."""
    return np.asarray(np.exp(logprobs).mean(axis=0))


def _vote_shares(_logprobs: NDArray[np.float64], votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the votes, float [C]."""
    return np.asarray(votes / votes.sum(), dtype=np.float64)


def _soft_label(
    text: Text, logprobs: NDArray[np.float64], mass: NDArray[np.float64], run: Run, method: Method, combine: Combine
) -> SoftLabel:
    """One text's row. Args: logprobs float [P, C] of its paths; mass float [P]."""
    labels = run.settings.labels
    votes = np.bincount(logprobs.argmax(axis=1), minlength=len(labels))
    probs = combine(logprobs, votes)
    probs = probs / probs.sum()
    return SoftLabel(
        id=text.id,
        text=text.text,
        target=text.target,
        gold=text.gold,
        probs=dict(zip(labels, probs.tolist(), strict=True)),
        votes=dict(zip(labels, votes.tolist(), strict=True)),
        agreement=float(votes.max() / votes.sum()),
        n_paths=len(logprobs),
        entropy=entropy(probs.tolist()),
        label_mass=float(np.clip(mass.mean(), 0, 1)),
        method=method,
        teacher_digest=run.settings.teacher_digest,
        task_digest=run.settings.task_digest,
    )
