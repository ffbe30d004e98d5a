"""The figures of a bundle's benchmark, for people and for machines."""

from __future__ import annotations

import msgspec

from potstill.serve.bench.texts import MIX
from potstill.serve.bench.times import Facts, Times


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What one of those that answer takes for a text; tokenization and probabilities included, but for `limit`."""

    limit_p50_ms: float  # the bare session on the same token ids
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float  # one after the other
    start_s: float  # from starting a process to its first answer; a bundle's hashes and golden texts checked
    rss_mb: float  # resident memory of that process after all texts, in units of 1,000,000 bytes
    bytes: int  # of what is opened
    batch_change_max: float  # of a probability, from sharing a batch
    by_tokens: dict[str, Times]  # of texts with so many tokens
    over_limit: dict[str, float]  # p50 over that of the bare session, as the texts come (`mix`) and by tokens

    @staticmethod
    def of(groups: dict[str, Times], facts: Facts, limit_p50_ms: float, limits: dict[str, Times]) -> Variant:
        """Args: times by group of texts; the rest that is known; the limit's p50, and its times by group."""
        mix = groups[MIX]
        return Variant(
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


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's own figures, and those of everything that was measured beside it."""

    limit_p50_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float
    start_s: float
    rss_mb: float
    bytes: int
    batch_change_max: float
    n: int  # timed answers of the texts as they come, and of each length
    tokens_p50: int  # of the texts as they come
    threads: int  # cores that one answer may use
    two_workers_over_one: float | None  # texts per second of two threads over those of one; None where there is one core
    variants: dict[str, Variant]  # int8, float or cascade; limit; whatever else was measured
    own: str  # which of them is the bundle

    @staticmethod
    def of(own: str, variants: dict[str, Variant], settings: dict[str, int], two_workers_over_one: float | None) -> BenchReport:
        """Put the parts together; `settings` are n, tokens_p50 and threads."""
        mine = variants[own]
        return BenchReport(
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
        """A table for a person, and a few lines on the bundle."""
        lengths = list(self.variants[self.own].by_tokens)
        head = f"{'p50 in ms':<10}{'as given':>10}" + "".join(f"{length + ' tok':>10}" for length in lengths)
        head += f"{'texts/s':>10}{'start s':>9}{'MB in RAM':>11}{'MB':>8}{'batch':>9}"
        rows = [
            f"{name:<10}{one.p50_ms:>10.3f}"
            + "".join(f"{one.by_tokens[length].p50_ms:>10.3f}" for length in lengths)
            + f"{one.texts_per_s:>10.0f}{one.start_s:>9.2f}{one.rss_mb:>11.0f}{one.bytes / 1e6:>8.1f}{one.batch_change_max:>9.2g}"
            for name, one in self.variants.items()
        ]
        scaling = "" if self.two_workers_over_one is None else f", two workers {self.two_workers_over_one:.2f} times as many"
        return "\n".join(
            [
                head,
                *rows,
                f"one text      p50 {self.p50_ms:.3f} ms, p95 {self.p95_ms:.3f} ms, p99 {self.p99_ms:.3f} ms",
                f"bare session  p50 {self.limit_p50_ms:.3f} ms on the same token ids ({self.tokens_p50} at the median)",
                f"throughput    {self.texts_per_s:.0f} texts/s, one after the other ({self.n} answers, threads: {self.threads})"
                + scaling,
                f"start         {self.start_s:.2f} s to the first answer, {self.rss_mb:.0f} MB resident",
                f"bundle        {self.bytes / 1e6:.1f} MB",
            ]
        )
