"""How fast a bundle answers, next to the limit, the bare session on the same token ids, and to others, in one run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from potstill.contract.bundle import Manifest
from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.contract.system.cores import usable_cores
from potstill.contract.texts import Text
from potstill.serve.bench.bundle_report import BenchReport, Variant
from potstill.serve.bench.fresh_process import Fresh
from potstill.serve.bench.texts import LENGTHS, MIX, mixed_texts, texts_of
from potstill.serve.bench.times import Facts, Peer, Times, milliseconds, summary
from potstill.serve.runtime.classifier import Classifier, softmax
from potstill.serve.runtime.tokenizer import Feeds, padded

LIMIT = "limit"
TURN = 20  # texts that are answered here before the peers' turn
BATCH = 8  # texts side by side when the change with the batch is measured
N_BATCHES = 4
SCALING_S = 0.5  # for which one worker, then two, answer; a few times in turn
N_SCALINGS = 3

Answer = Callable[[Text, Feeds], object]


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often."""

    texts: Path | None = None  # .jsonl, .csv, .tsv or .parquet; None: the bundle's golden texts
    n: int = 300  # timed answers of the texts as they come, and of each length; the texts are repeated or cut to this number
    n_warm_up: int = 10  # answers before the clock runs
    n_starts: int = 3  # fresh processes; start-up time and memory are the median of them
    threads: int = 1  # cores that one answer may use


@dataclass(frozen=True)
class _Group:
    """Texts of one kind, with their token ids as the bundle reads them."""

    name: str
    texts: list[Text]
    feeds: list[Feeds]


_BENCH = BenchConfig()


def bench(
    bundle: str | Path, config: BenchConfig = _BENCH, others: dict[str, Path] | None = None, peers: Sequence[Peer] = ()
) -> BenchReport:
    """Measure a bundle. Limit, answer and other bundles alternate text by text, peers in turns, so that all meet the same machine.

    Args:
        bundle: the folder.
        config: what and how often.
        others: more bundles of the same task, by the name that they have in the report.
        peers: what answers in processes of its own.
    Raises:
        FormatError: if a bundle or the texts are malformed.
        UserError: if a fresh process cannot answer.
    """
    bundle = Path(bundle)
    with Classifier.open(bundle, threads=config.threads) as classifier:
        more = {name: Classifier.open(path, threads=config.threads) for name, path in (others or {}).items()}
        groups = _groups(classifier, bundle, config)
        own = own_name(classifier.manifest)
        answers: dict[str, Answer] = {LIMIT: lambda text, feed: classifier.run(feed), own: _classifying(classifier)}
        answers |= {name: _classifying(other) for name, other in more.items()}
        for text, feed in list(zip(groups[0].texts, groups[0].feeds, strict=True))[: config.n_warm_up]:
            for answer in answers.values():
                answer(text, feed)
        times = {group.name: _times(answers, peers, group) for group in groups}
        changes = {name: _batch_change(holder, groups[0].texts) for name, holder in {own: classifier, **more}.items()}
        changes[LIMIT] = _bare_batch_change(classifier, groups[0].feeds)
        scaling = _scaling(classifier, groups[0].texts)
        for other in more.values():
            other.close()
    texts = groups[0].texts
    facts = {name: _facts(path, texts, config.n_starts, changes[name]) for name, path in {own: bundle, **(others or {})}.items()}
    facts[LIMIT] = msgspec.structs.replace(facts[own], batch_change_max=changes[LIMIT])
    facts |= {peer.name: peer.facts(texts) for peer in peers}
    tokens = int(median(feed["input_ids"].shape[1] for feed in groups[0].feeds))
    settings = {"n": config.n, "tokens_p50": tokens, "threads": config.threads}
    return BenchReport.of(own, _variants(times, facts), settings, scaling)


def own_name(manifest: Manifest) -> str:
    """What a bundle is called in the report: cascade, int8 or float."""
    return "cascade" if manifest.cascade is not None else "float" if manifest.variant == "float" else "int8"


def _groups(classifier: Classifier, bundle: Path, config: BenchConfig) -> list[_Group]:
    """The texts as they come first, then those of each length that the bundle reads whole."""

    def feed(text: Text) -> Feeds:
        """The text as the graph is fed."""
        return classifier.tokenize.ids(text.text, text.target)

    mix = mixed_texts(bundle, config.texts, config.n, classifier.manifest.target)
    by_name = {MIX: mix}
    for length in LENGTHS:
        if length <= classifier.manifest.max_tokens:
            by_name[str(length)] = texts_of(length, mix, config.n, lambda text: int(feed(text)["input_ids"].shape[1]))
    return [_Group(name, texts, [feed(text) for text in texts]) for name, texts in by_name.items()]


def _classifying(classifier: Classifier) -> Answer:
    """Answers as a caller gets them, tokenization included."""
    return lambda text, feed: classifier.classify([text.text], None if text.target is None else [text.target])


def _times(answers: dict[str, Answer], peers: Sequence[Peer], group: _Group) -> dict[str, list[float]]:
    """Milliseconds of every text, by who answers. They take turns at going first, as the second finds warm caches."""
    times: dict[str, list[float]] = {name: [] for name in [*answers, *(peer.name for peer in peers)]}
    names = list(answers)
    for start in range(0, len(group.texts), TURN):
        for at in range(start, min(start + TURN, len(group.texts))):
            text, feed = group.texts[at], group.feeds[at]
            for name in names[at % len(names) :] + names[: at % len(names)]:
                answer = answers[name]
                times[name].append(milliseconds(lambda answer=answer, text=text, feed=feed: answer(text, feed)))  # type: ignore[misc]
        for peer in peers:
            times[peer.name] += peer.times_ms(group.texts[start : start + TURN])
    return times


def _variants(times: dict[str, dict[str, list[float]]], facts: dict[str, Facts]) -> dict[str, Variant]:
    """The report's rows, by who answers."""
    told: dict[str, dict[str, Times]] = {
        name: {group: summary(by_name[name]) for group, by_name in times.items()} for name in times[MIX]
    }
    limit = told[LIMIT][MIX].p50_ms
    return {name: Variant.of(groups, facts[name], limit, told[LIMIT]) for name, groups in told.items()}


def _batch_change(classifier: Classifier, texts: list[Text]) -> float:
    """The largest change of a probability when texts are given together."""
    some = texts[: BATCH * N_BATCHES]
    targets = [text.target or "" for text in some] if classifier.manifest.target else None
    together = classifier.probs([text.text for text in some], targets)
    alone = [classifier.probs([text.text], None if targets is None else [text.target or ""])[0] for text in some]
    return float(np.abs(together - np.array(alone)).max())


def _bare_batch_change(classifier: Classifier, feeds: list[Feeds]) -> float:
    """The same of the bare session, which needs padding: what a batch does to the graph's own answers."""
    change = 0.0
    for start in range(0, min(len(feeds), BATCH * N_BATCHES), BATCH):
        group = feeds[start : start + BATCH]
        batch = padded(group, 0, max(feed["input_ids"].shape[1] for feed in group))  # any id would do, as it is masked
        alone = np.concatenate([classifier.run(feed) for feed in group])
        temperature = classifier.manifest.temperature
        change = max(change, float(np.abs(softmax(classifier.run(batch), temperature) - softmax(alone, temperature)).max()))
    return change


def _scaling(classifier: Classifier, texts: list[Text]) -> float | None:
    """Texts per second of two workers over those of one, at the median of a few turns; None where there is one core."""
    if usable_cores() < 2:
        return None
    return median(_rate(classifier, texts, 2) / _rate(classifier, texts, 1) for _ in range(N_SCALINGS))


def _rate(classifier: Classifier, texts: list[Text], n_workers: int) -> float:
    """Texts per second of so many threads."""
    counts = [0] * n_workers
    end_s = time.perf_counter() + SCALING_S

    def work(worker: int) -> None:
        """Answer until the time is over."""
        at = worker
        while time.perf_counter() < end_s:
            text = texts[at % len(texts)]
            classifier.classify([text.text], None if text.target is None else [text.target])
            at += n_workers
        counts[worker] = (at - worker) // n_workers

    start_s = time.perf_counter()
    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(n_workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start_s)


def _facts(bundle: Path, texts: list[Text], n_starts: int, change: float) -> Facts:
    """Start-up and memory of fresh processes, at the median, and size."""
    starts = _starts(bundle, texts, n_starts)
    size = sum(path.stat().st_size for path in bundle.iterdir())
    return Facts(median(start_s for start_s, _ in starts), median(rss for _, rss in starts) / 1e6, size, change)


def _starts(bundle: Path, texts: list[Text], n_starts: int) -> list[tuple[float, int]]:
    """(seconds to the first answer, resident bytes) of fresh processes."""
    unique = list(dict.fromkeys((text.text, text.target) for text in texts))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_bytes(msgspec.json.encode(unique))
        return [_start(bundle, file) for _ in range(n_starts)]


def _start(bundle: Path, texts: Path) -> tuple[float, int]:
    """(seconds to the first answer, resident bytes) of one fresh process."""
    command = [sys.executable, "-m", "potstill.serve.bench.fresh_process", str(bundle), str(texts)]
    start_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{bundle}: a fresh process could not answer: {''.join(last)}")
    fresh = msgspec.json.decode(done.stdout, type=Fresh)
    return fresh.first_answer_s - start_s, fresh.rss_bytes
