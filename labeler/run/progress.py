"""How a labelling run is going: speed, time left, and whether the labels look right, from the paths so far."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from scipy.special import log_softmax

from potstill.labeler.aggregation.calibration import batch_calibrated, label_logprobs
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS
from potstill.labeler.store.label_store import RunSettings
from potstill.labeler.teacher import TeacherPath

_MIN_TO_CALIBRATE = 12  # paths of a variant; with fewer, its mean says nothing


_NOTHING: dict[str, Any] = {"shares": {}, "agreement": None, "unreadable": None, "accuracy": None, "n_gold": 0}


class RunSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state at one moment. Shares are from 0 to 1; None where nothing can be said yet."""

    paths: int
    of: int  # paths when it will be done, at most
    seconds: float
    texts_per_s: float | None  # of the paths drawn in this process, by the paths that a text gets
    seconds_left: float | None
    shares: dict[str, float]  # of the paths' calibrated favourites, by label
    agreement: float | None  # mean over texts with at least two paths
    unreadable: float | None
    accuracy: float | None  # on the gold texts among those that have a path
    n_gold: int


class RunProgress:
    """Collects what is needed of the paths; :meth:`snapshot` says what they come to."""

    def __init__(self, settings: RunSettings, gold: Mapping[str, str], n_texts: int) -> None:
        """Args: gold, labels by text id."""
        self.settings, self.n_texts = settings, n_texts
        self.total = 0  # paths when all is drawn, at most
        self._gold, self._began, self._n_found = gold, time.monotonic(), 0
        self._texts: dict[str, int] = {}  # place of each text id
        self._places, self._variants, self._words = array("q"), array("q"), array("d")

    @property
    def n_drawn(self) -> int:
        """Paths drawn in this process."""
        return self.n_paths - self._n_found

    @property
    def n_paths(self) -> int:
        """Paths that are stored."""
        return len(self._places)

    def found(self, path: TeacherPath) -> None:
        """A path that was stored before."""
        self.add(path)
        self._n_found += 1

    def add(self, path: TeacherPath) -> None:
        """A path that was drawn now."""
        self._places.append(self._texts.setdefault(path.text_id, len(self._texts)))
        self._variants.append(path.variant)
        self._words.extend(path.word_logprobs)

    def snapshot(self) -> RunSnapshot:
        """The state now. Looks at every path: some milliseconds for ten thousand."""
        seconds = time.monotonic() - self._began
        speed = self.n_drawn / seconds if self.n_drawn else None
        per_text = max(1.0, self.total / max(1, self.n_texts))
        left = None if speed is None else max(0, self.total - self.n_paths) / speed
        looks = self._looks() if self.n_paths else _NOTHING
        texts_per_s = None if speed is None else speed / per_text
        return RunSnapshot(paths=self.n_paths, of=self.total, seconds=seconds, texts_per_s=texts_per_s, seconds_left=left, **looks)

    def _looks(self) -> dict[str, Any]:
        """What the labels look like."""
        labels = self.settings.labels
        words = np.array(self._words).reshape(self.n_paths, -1)
        raw = label_logprobs(words, self.settings.word_labels, len(labels))
        logprobs = np.asarray(log_softmax(raw, axis=1))
        variants, places = np.array(self._variants), np.array(self._places)
        for variant in np.unique(variants):
            rows = variants == variant
            if rows.sum() >= _MIN_TO_CALIBRATE:
                logprobs[rows] = batch_calibrated(logprobs[rows])
        favourites = logprobs.argmax(axis=1)
        n_texts, n_labels = len(self._texts), len(labels)
        votes = np.bincount(places * n_labels + favourites, minlength=n_texts * n_labels).reshape(n_texts, n_labels)
        several = votes[votes.sum(axis=1) > 1]
        means = np.stack([np.bincount(places, weights=np.exp(column), minlength=n_texts) for column in logprobs.T], axis=1)
        best = means.argmax(axis=1)
        right = [labels[best[self._texts[i]]] == gold for i, gold in self._gold.items() if i in self._texts]
        shares = np.bincount(favourites, minlength=n_labels) / self.n_paths
        return {
            "shares": dict(zip(labels, shares.tolist(), strict=True)),
            "agreement": float((several.max(axis=1) / several.sum(axis=1)).mean()) if len(several) else None,
            "unreadable": float(np.mean(np.exp(raw).sum(axis=1) < UNREADABLE_MASS)),
            "accuracy": float(np.mean(right)) if right else None,
            "n_gold": len(right),
        }
