"""How a labelling run is going: speed, time left, and whether the labels look right, from the paths so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from scipy.special import log_softmax

from labeler.calibrate import batch_calibrated, label_logprobs
from labeler.paths import TeacherPath
from labeler.store import RunSettings

UNREADABLE = 0.05  # a path that gives all label words together less than this probability answered something else
_MIN_TO_CALIBRATE = 12  # paths of a variant; with fewer, its mean says nothing


_NOTHING: dict[str, Any] = {"shares": {}, "agreement": None, "unreadable": None, "accuracy": None, "n_gold": 0}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
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


class Live:
    """Collects paths; :meth:`snapshot` says what they come to."""

    def __init__(self, settings: RunSettings, gold: Mapping[str, str], n_texts: int, total: int) -> None:
        """Args: gold, labels by text id; total, paths when all is drawn, at most."""
        self.settings, self.n_texts, self.total = settings, n_texts, total
        self._gold, self._paths, self._began, self._n_found = gold, list[TeacherPath](), time.monotonic(), 0

    @property
    def n_drawn(self) -> int:
        """Paths drawn in this process."""
        return len(self._paths) - self._n_found

    @property
    def n_paths(self) -> int:
        """Paths that are stored."""
        return len(self._paths)

    def found(self, path: TeacherPath) -> None:
        """A path that was stored before."""
        self._paths.append(path)
        self._n_found += 1

    def add(self, path: TeacherPath) -> None:
        """A path that was drawn now."""
        self._paths.append(path)

    def snapshot(self) -> Snapshot:
        """The state now. Takes about a microsecond a path."""
        seconds = time.monotonic() - self._began
        speed = self.n_drawn / seconds if self.n_drawn else None
        per_text = max(1.0, self.total / max(1, self.n_texts))
        left = None if speed is None else max(0, self.total - self.n_paths) / speed
        looks = (
            self._looks() if self._paths else {"shares": {}, "agreement": None, "unreadable": None, "accuracy": None, "n_gold": 0}
        )
        texts_per_s = None if speed is None else speed / per_text
        return Snapshot(paths=self.n_paths, of=self.total, seconds=seconds, texts_per_s=texts_per_s, seconds_left=left, **looks)

    def _looks(self) -> dict[str, Any]:
        """What the labels look like."""
        labels = self.settings.labels
        words = np.array([path.word_logprobs for path in self._paths])
        raw = label_logprobs(words, self.settings.word_labels, len(labels))
        logprobs = np.asarray(log_softmax(raw, axis=1))
        variants = np.array([path.variant for path in self._paths])
        for variant in np.unique(variants):
            rows = variants == variant
            if rows.sum() >= _MIN_TO_CALIBRATE:
                logprobs[rows] = batch_calibrated(logprobs[rows])
        votes: dict[str, np.ndarray] = {}
        sums: dict[str, np.ndarray] = {}
        favourites = logprobs.argmax(axis=1)
        for path, favourite, row in zip(self._paths, favourites, np.exp(logprobs)):
            votes.setdefault(path.text_id, np.zeros(len(labels)))[favourite] += 1
            sums.setdefault(path.text_id, np.zeros(len(labels)))
            sums[path.text_id] += row
        several = [v.max() / v.sum() for v in votes.values() if v.sum() > 1]
        right = [labels[int(sums[i].argmax())] == gold for i, gold in self._gold.items() if i in sums]
        counts = np.bincount(favourites, minlength=len(labels)) / len(favourites)
        return {
            "shares": dict(zip(labels, counts.tolist(), strict=True)),
            "agreement": float(np.mean(several)) if several else None,
            "unreadable": float(np.mean(np.exp(raw).sum(axis=1) < UNREADABLE)),
            "accuracy": float(np.mean(right)) if right else None,
            "n_gold": len(right),
        }
