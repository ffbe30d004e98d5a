"""How fast a bundle answers, next to the limit: the bare session on the same token ids, measured in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from contract.bundle import read_golden
from contract.errors import UserError
from contract.texts import Text, read_texts
from serve.classifier import Classifier
from serve.fresh import Fresh
from serve.tokenize import Feeds

ROOT = Path(__file__).parents[1]  # where the packages lie; a fresh process must find the same ones


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often."""

    texts: Path | None = None  # .jsonl, .csv, .tsv or .parquet; None: the bundle's golden texts
    n: int = 300  # timed answers; the texts are repeated or cut to this number
    n_warm_up: int = 10  # answers before the clock runs
    n_starts: int = 3  # fresh processes; start-up time and memory are the median of them
    threads: int = 1  # cores that one answer may use


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one text, tokenization and probabilities included, unless they say otherwise."""

    limit_p50_ms: float  # the bare session on the same token ids
    p50_ms: float
    p95_ms: float
    p99_ms: float
    texts_per_s: float  # one after the other
    start_s: float  # from starting a process to its first answer, hashes and golden texts checked
    rss_mb: float  # resident memory of that process after all texts, in units of 1,000,000 bytes
    bytes: int  # of the bundle
    n: int  # timed answers
    tokens_p50: int  # of the texts
    threads: int

    def as_text(self) -> str:
        """A few lines for a person."""
        return "\n".join(
            [
                f"one text      p50 {self.p50_ms:.2f} ms, p95 {self.p95_ms:.2f} ms, p99 {self.p99_ms:.2f} ms",
                f"bare session  p50 {self.limit_p50_ms:.2f} ms on the same token ids ({self.tokens_p50} at the median)",
                f"throughput    {self.texts_per_s:.0f} texts/s, one after the other ({self.n} answers, threads: {self.threads})",
                f"start         {self.start_s:.2f} s to the first answer, {self.rss_mb:.0f} MB resident",
                f"bundle        {self.bytes / 1e6:.1f} MB",
            ]
        )


def bench(bundle: Path, config: BenchConfig) -> BenchReport:
    """Measure a bundle. Limit and answer alternate, text by text, so that both meet the same machine.

    Raises:
        FormatError: if bundle or texts are malformed.
        UserError: if a fresh process cannot answer.
    """
    with Classifier.open(bundle, threads=config.threads) as classifier:
        texts = _texts(bundle, config, classifier.manifest.target)
        feeds = [classifier.tokenize.ids(text.text, text.target) for text in texts]
        for text in texts[: config.n_warm_up]:
            _classify(classifier, text)
        times_ms = np.array(
            [_pair_ms(classifier, text, feed, i) for i, (text, feed) in enumerate(zip(texts, feeds, strict=True))]
        )  # [n, 2]
    starts = _starts(bundle, texts, config.n_starts)
    p50, p95, p99 = np.percentile(times_ms[:, 1], [50, 95, 99])
    return BenchReport(
        limit_p50_ms=float(np.median(times_ms[:, 0])),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        texts_per_s=1000 / float(times_ms[:, 1].mean()),
        start_s=median(start_s for start_s, _ in starts),
        rss_mb=median(rss_bytes for _, rss_bytes in starts) / 1e6,
        bytes=sum(path.stat().st_size for path in bundle.iterdir()),
        n=len(texts),
        tokens_p50=int(median(feed["input_ids"].shape[1] for feed in feeds)),
        threads=config.threads,
    )


def _texts(bundle: Path, config: BenchConfig, target: bool) -> list[Text]:
    """As many texts as are timed."""
    if config.texts is not None:
        texts = read_texts(config.texts, target=target).texts
    else:
        texts = [Text(row.text, target=row.target) for row in read_golden(bundle) if row.text.strip() and "\0" not in row.text]
    return [texts[i % len(texts)] for i in range(config.n)]


def _pair_ms(classifier: Classifier, text: Text, feed: Feeds, index: int) -> tuple[float, float]:
    """Milliseconds of the bare session and of an answer; they take turns at going first, as the second finds warm caches."""
    limit, answer = partial(classifier.run, feed), partial(_classify, classifier, text)
    if index % 2:
        answer_ms = _ms(answer)
        return _ms(limit), answer_ms
    return _ms(limit), _ms(answer)


def _ms(work: Callable[[], object]) -> float:
    """Milliseconds that the work takes."""
    start_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start_ns) / 1e6


def _classify(classifier: Classifier, text: Text) -> None:
    """One answer, thrown away."""
    classifier.classify([text.text], None if text.target is None else [text.target])


def _starts(bundle: Path, texts: list[Text], n_starts: int) -> list[tuple[float, int]]:
    """(seconds to the first answer, resident bytes) of fresh processes."""
    unique = list(dict.fromkeys((text.text, text.target) for text in texts))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_bytes(msgspec.json.encode(unique))
        return [_start(bundle, file) for _ in range(n_starts)]


def _start(bundle: Path, texts: Path) -> tuple[float, int]:
    """(seconds to the first answer, resident bytes) of one fresh process."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "serve.fresh", str(bundle), str(texts)]
    start_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{bundle}: a fresh process could not answer: {''.join(last)}")
    fresh = msgspec.json.decode(done.stdout, type=Fresh)
    return fresh.first_answer_s - start_s, fresh.rss_bytes
