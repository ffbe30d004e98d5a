"""Times of answers: how they are taken, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from potstill.contract.texts import Text


class Times(msgspec.Struct, frozen=True):
    """Times of one text after the other."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float


class Facts(msgspec.Struct, frozen=True):
    """What else there is to tell of something that answers."""

    start_s: float  # from starting a process to its first answer
    rss_mb: float  # resident memory of that process after all texts, in units of 1,000,000 bytes
    bytes: int  # of the files that it is opened from
    batch_change_max: float  # of a probability, from sharing a batch


class Peer(Protocol):
    """Something else that answers the same texts, in a process of its own."""

    name: str

    def times_ms(self, texts: Sequence[Text]) -> list[float]:
        """Milliseconds of each answer, one after the other."""

    def facts(self, texts: Sequence[Text]) -> Facts:
        """Measured at the end; the texts are answered alone and side by side."""


def summary(times_ms: Sequence[float]) -> Times:
    """Percentiles and rate of at least one time."""
    p50, p95, p99 = (float(value) for value in np.percentile(times_ms, [50, 95, 99]))
    return Times(len(times_ms), p50, p95, p99, 1000 / float(np.mean(times_ms)))


def milliseconds(work: Callable[[], object]) -> float:
    """Milliseconds that the work takes."""
    start_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start_ns) / 1e6
