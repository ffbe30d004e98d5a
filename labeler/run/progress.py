"""Progress of a labelling run: speed, time left, and whether the labels look right, computed from the paths so far."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from scipy.special import log_softmax

from potstill.labeler.aggregation.calibration import batch_calibrated
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS, label_logprobs
from potstill.labeler.store.database import RunSettings
from potstill.labeler.teacher import TeacherPath

_MIN_TO_CALIBRATE = 12  # paths of a variant; with fewer, their mean says nothing


class RunSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run at one moment. Shares are from 0 to 1; None where nothing is known yet."""

    paths: int
    of: int  # upper bound of the paths when the run is complete
    seconds: float
    texts_per_s: float | None  # of this process: its paths per second, divided by the paths per text
    seconds_left: float | None
    shares: dict[str, float]  # of the paths' most probable labels after calibration, by label
    agreement: float | None  # mean over texts with at least two paths
    unreadable: float | None
    accuracy: float | None  # on the gold texts that have a path; None where labels are narrowed, and only calibrated ones mean much
    n_gold: int


class _LabelFigures(NamedTuple):
    """The part of a snapshot that describes the labels."""

    shares: dict[str, float]
    agreement: float | None
    unreadable: float | None
    accuracy: float | None
    n_gold: int


_NO_PATHS = _LabelFigures({}, None, None, None, 0)


class LiveRun(Protocol):
    """What is known about a run while it goes on."""

    @property
    def n_paths(self) -> int:
        """Number of stored paths."""

    @property
    def n_drawn(self) -> int:
        """Number of paths drawn in this process."""

    @property
    def total(self) -> int:
        """Upper bound of the paths when the run is complete."""

    def snapshot(self) -> RunSnapshot:
        """The state now."""


class RunProgress:
    """Collects the paths of a run; :meth:`snapshot` summarises them."""

    def __init__(self, settings: RunSettings, gold: Mapping[str, str], n_texts: int) -> None:
        """Args: gold labels by text id."""
        self.settings, self.n_texts = settings, n_texts
        self.total = 0  # upper bound of the paths when the run is complete
        self._gold, self._began, self._n_found = gold, time.monotonic(), 0
        self._texts: dict[str, int] = {}  # index of each text id
        self._places, self._variants, self._words = array("q"), array("q"), array("d")

    @property
    def n_drawn(self) -> int:
        """Number of paths drawn in this process."""
        return self.n_paths - self._n_found

    @property
    def n_paths(self) -> int:
        """Number of stored paths."""
        return len(self._places)

    def found(self, path: TeacherPath) -> None:
        """Count a path that was stored before."""
        self.add(path)
        self._n_found += 1

    def add(self, path: TeacherPath) -> None:
        """Count a path that was drawn now."""
        self._places.append(self._texts.setdefault(path.text_id, len(self._texts)))
        self._variants.append(path.variant)
        self._words.extend(path.word_logprobs)

    def snapshot(self) -> RunSnapshot:
        """The state now. It reads every path: some milliseconds for ten thousand."""
        seconds = time.monotonic() - self._began
        speed = self.n_drawn / seconds if self.n_drawn else None
        per_text = max(1.0, self.total / max(1, self.n_texts))
        left = None if speed is None else max(0, self.total - self.n_paths) / speed
        figures = self._label_figures() if self.n_paths else _NO_PATHS
        return RunSnapshot(
            paths=self.n_paths,
            of=self.total,
            seconds=seconds,
            texts_per_s=None if speed is None else speed / per_text,
            seconds_left=left,
            shares=figures.shares,
            agreement=figures.agreement,
            unreadable=figures.unreadable,
            accuracy=figures.accuracy,
            n_gold=figures.n_gold,
        )

    def _label_figures(self) -> _LabelFigures:
        """Label shares, agreement, label mass and accuracy; there must be a path."""
        labels = self.settings.labels
        words = np.array(self._words).reshape(self.n_paths, -1)
        raw = label_logprobs(words, self.settings.word_labels, len(labels))
        logprobs = np.asarray(log_softmax(raw, axis=1))
        variants, places = np.array(self._variants), np.array(self._places)
        for variant in np.unique(variants):
            rows = variants == variant
            if rows.sum() >= _MIN_TO_CALIBRATE and not self.settings.candidates:
                logprobs[rows] = batch_calibrated(logprobs[rows])
        favourites = logprobs.argmax(axis=1)
        n_texts, n_labels = len(self._texts), len(labels)
        votes = np.bincount(places * n_labels + favourites, minlength=n_texts * n_labels).reshape(n_texts, n_labels)
        several = votes[votes.sum(axis=1) > 1]
        means = np.stack([np.bincount(places, weights=np.exp(column), minlength=n_texts) for column in logprobs.T], axis=1)
        best = means.argmax(axis=1)
        right = [labels[best[self._texts[i]]] == gold for i, gold in self._gold.items() if i in self._texts]
        shares = np.bincount(favourites, minlength=n_labels) / self.n_paths
        return _LabelFigures(
            shares=dict(zip(labels, shares.tolist(), strict=True)),
            agreement=float((several.max(axis=1) / several.sum(axis=1)).mean()) if len(several) else None,
            unreadable=None if self.settings.candidates else float(np.mean(np.exp(raw).sum(axis=1) < UNREADABLE_MASS)),
            accuracy=float(np.mean(right)) if right and not self.settings.candidates else None,
            n_gold=len(right),
        )
