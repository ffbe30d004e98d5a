"""The figures of a bundle's benchmark: measured times, and the report for people and for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from potstill.contract.texts import Text

MIX = "mix"  # the group of the texts as given

# --- what is measured


class Times(msgspec.Struct, frozen=True):
    """Latency percentiles and throughput of texts answered one after another."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float


class Facts(msgspec.Struct, frozen=True):
    """Start-up time, memory, size and batch sensitivity of one variant."""

    start_s: float  # from starting a process to its first answer
    rss_mb: float  # resident memory of that process after all texts, in units of 1,000,000 bytes
    bytes: int  # size of the files it is opened from
    batch_change_max: float  # largest change of a probability caused by sharing a batch


class Peer(Protocol):
    """Another system that answers the same texts, in a process of its own."""

    name: str

    def times_ms(self, texts: Sequence[Text]) -> list[float]:
        """Milliseconds of each answer, one after another."""

    def facts(self, texts: Sequence[Text]) -> Facts:
        """Measure the rest, after all times; each text is answered alone and in a batch."""


def summary(times_ms: Sequence[float]) -> Times:
    """Percentiles and throughput of at least one time, in milliseconds."""
    p50, p95, p99 = (float(value) for value in np.percentile(times_ms, [50, 95, 99]))
    return Times(len(times_ms), p50, p95, p99, 1000 / float(np.mean(times_ms)))


def milliseconds(work: Callable[[], object]) -> float:
    """Run a function and return how many milliseconds it took."""
    start_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start_ns) / 1e6


# --- the report


class VariantFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's figures. Times include tokenization and probabilities, except for `limit`, the bare session."""

    limit_p50_ms: float  # the bare session on the same token ids
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float  # one after another
    start_s: float  # from starting a process to its first answer, checks of hashes and golden texts included
    rss_mb: float  # resident memory of that process after all texts, in units of 1,000,000 bytes
    bytes: int  # size of the files it is opened from
    batch_change_max: float  # largest change of a probability caused by sharing a batch
    by_tokens: dict[str, Times]  # by number of tokens
    over_limit: dict[str, float]  # p50 divided by the bare session's, for the texts as given (`mix`) and by number of tokens

    @staticmethod
    def of(groups: dict[str, Times], facts: Facts, limit_p50_ms: float, limits: dict[str, Times]) -> VariantFigures:
        """Put one variant's figures together.

        Args:
            groups: times by group of texts.
            facts: the other figures.
            limit_p50_ms: the bare session's median on the texts as given, in milliseconds.
            limits: the bare session's times by group.
        """
        mix = groups[MIX]
        return VariantFigures(
            limit_p50_ms=limit_p50_ms,
            p50_ms=mix.p50_ms,
            p95_ms=mix.p95_ms,
            p99_ms=mix.p99_ms,
            texts_per_s=mix.texts_per_s,
            start_s=facts.start_s,
            rss_mb=facts.rss_mb,
            bytes=facts.bytes,
            batch_change_max=facts.batch_change_max,
            by_tokens={name: times for name, times in groups.items() if name != MIX},
            over_limit={name: times.p50_ms / limits[name].p50_ms for name, times in groups.items()},
        )


class BundleBenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's own figures, and those of every other variant measured in the same run."""

    limit_p50_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float
    start_s: float
    rss_mb: float
    bytes: int
    batch_change_max: float
    n: int  # timed answers for the texts as given, and for each length
    tokens_p50: int  # median number of tokens of the texts as given
    threads: int  # cores that one answer may use
    two_workers_over_one: float | None  # throughput of two threads divided by that of one; None with one core
    variants: dict[str, VariantFigures]  # int8, float or cascade; limit; other bundles and peers
    own: str  # name of the bundle's own variant

    @staticmethod
    def of(
        own: str, variants: dict[str, VariantFigures], settings: dict[str, int], two_workers_over_one: float | None
    ) -> BundleBenchReport:
        """Put the report together.

        Args:
            own: name of the bundle's own variant.
            variants: figures by name.
            settings: n, tokens_p50 and threads.
            two_workers_over_one: throughput of two threads divided by that of one, no unit; None with one core.
        """
        mine = variants[own]
        return BundleBenchReport(
            limit_p50_ms=mine.limit_p50_ms,
            p50_ms=mine.p50_ms,
            p95_ms=mine.p95_ms,
            p99_ms=mine.p99_ms,
            texts_per_s=mine.texts_per_s,
            start_s=mine.start_s,
            rss_mb=mine.rss_mb,
            bytes=mine.bytes,
            batch_change_max=mine.batch_change_max,
            **settings,
            two_workers_over_one=two_workers_over_one,
            variants=variants,
            own=own,
        )

    def as_text(self) -> str:
        """A table of all variants, and a few lines about the bundle."""
        lengths = list(self.variants[self.own].by_tokens)
        head = f"{'p50 in ms':<10}{'as given':>10}" + "".join(f"{length + ' tok':>10}" for length in lengths)
        head += f"{'texts/s':>10}{'start s':>9}{'MB in RAM':>11}{'MB':>8}{'batch':>9}"
        rows = [
            f"{name:<10}{one.p50_ms:>10.3f}"
            + "".join(f"{one.by_tokens[length].p50_ms:>10.3f}" for length in lengths)
            + f"{one.texts_per_s:>10.0f}{one.start_s:>9.2f}{one.rss_mb:>11.0f}{one.bytes / 1e6:>8.1f}{one.batch_change_max:>9.2g}"
            for name, one in self.variants.items()
        ]
        scaling = "" if self.two_workers_over_one is None else f", two workers {self.two_workers_over_one:.2f} times that"
        return "\n".join(
            [
                head,
                *rows,
                f"one text      p50 {self.p50_ms:.3f} ms, p95 {self.p95_ms:.3f} ms, p99 {self.p99_ms:.3f} ms",
                f"bare session  p50 {self.limit_p50_ms:.3f} ms on the same token ids ({self.tokens_p50} at the median)",
                f"throughput    {self.texts_per_s:.0f} texts/s, one after another ({self.n} answers, threads: {self.threads})"
                + scaling,
                f"start         {self.start_s:.2f} s to the first answer, {self.rss_mb:.0f} MB resident",
                f"bundle        {self.bytes / 1e6:.1f} MB",
            ]
        )
