"""Benchmark a bundle in one run with its limit (the bare session on the same token ids), other bundles and peers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import Manifest
from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import tell_progress
from potstill.contract.texts import Text, texts_and_targets
from potstill.serve.bench.bundle_report import MIX, BundleBenchReport, Facts, Peer, Times, VariantFigures, milliseconds, summary
from potstill.serve.bench.config import BundleBenchConfig
from potstill.serve.bench.fresh_process import TRUST, FreshProcess
from potstill.serve.bench.load.in_process import in_process_rps
from potstill.serve.bench.texts import LENGTHS, texts_as_given, texts_of
from potstill.serve.runtime.classifier import Classifier, softmax
from potstill.serve.runtime.tokenizer import Feeds, padded

LIMIT = "limit"
TURN = 20  # texts answered in this process before the peers' turn
BATCH = 8  # texts in a batch when its effect on the answers is measured
N_BATCHES = 4
SCALING_S = 0.5  # seconds for which one thread, then two, answer; repeated N_SCALINGS times
N_SCALINGS = 3

_Answering = Callable[[Text, Feeds], object]


@dataclass(frozen=True)
class _Group:
    """Texts of one kind, with their token ids."""

    name: str
    texts: list[Text]
    feeds: list[Feeds]


_BENCH = BundleBenchConfig()


def bench_bundle(
    bundle: str | Path, config: BundleBenchConfig = _BENCH, others: dict[str, Path] | None = None, peers: Sequence[Peer] = ()
) -> BundleBenchReport:
    """Measure a bundle. Limit, bundle and other bundles alternate text by text, peers in turns, so that all share the conditions.

    Args:
        bundle: the folder.
        config: what to measure, and how often.
        others: more bundles of the same task, by their names in the report.
        peers: systems that answer in processes of their own.
    Raises:
        FormatError: if a bundle or the texts are malformed.
        UserError: if a fresh process cannot answer.
    """
    bundle = Path(bundle)
    opened = partial(Classifier.open, threads=config.threads, trust=config.trust)
    with opened(bundle) as classifier:
        more = {name: opened(path) for name, path in (others or {}).items()}
        groups = _groups(classifier, bundle, config)
        own = own_name(classifier.manifest)
        answers: dict[str, _Answering] = {LIMIT: lambda text, feed: classifier.run(feed), own: _classifying(classifier)}
        answers |= {name: _classifying(other) for name, other in more.items()}
        for text, feed in list(zip(groups[0].texts, groups[0].feeds, strict=True))[: config.n_warm_up]:
            for answer in answers.values():
                answer(text, feed)
        times = {group.name: _times(answers, peers, group) for group in groups}
        tell_progress("compare batches, and one thread with two")
        changes = {name: _batch_change(holder, groups[0].texts) for name, holder in {own: classifier, **more}.items()}
        changes[LIMIT] = _bare_batch_change(classifier, groups[0].feeds)
        scaling = _scaling(classifier, groups[0].texts)
        for other in more.values():
            other.close()
    texts = groups[0].texts
    tell_progress("start fresh processes")
    facts = {name: _facts(path, texts, config, changes[name]) for name, path in {own: bundle, **(others or {})}.items()}
    facts[LIMIT] = msgspec.structs.replace(facts[own], batch_change_max=changes[LIMIT])
    facts |= {peer.name: peer.facts(texts) for peer in peers}
    tokens = int(median(feed["input_ids"].shape[1] for feed in groups[0].feeds))
    settings = {"n": config.n, "tokens_p50": tokens, "threads": config.threads}
    return BundleBenchReport.of(own, _variants(times, facts), settings, scaling)


def own_name(manifest: Manifest) -> str:
    """A bundle's name in the report: cascade, int8 or float."""
    return "cascade" if manifest.cascade is not None else "float" if manifest.variant == "float" else "int8"


def _groups(classifier: Classifier, bundle: Path, config: BundleBenchConfig) -> list[_Group]:
    """The texts as given, then texts of each length that the bundle reads without truncation."""

    def feed(text: Text) -> Feeds:
        """The graph's inputs for a text."""
        return classifier.tokenizer.ids(text.text, text.target)

    mix = texts_as_given(bundle, config.texts, config.n, classifier.manifest.target)
    by_name = {MIX: mix}
    for length in LENGTHS:
        if length <= classifier.manifest.max_tokens:
            by_name[str(length)] = texts_of(length, mix, config.n, lambda text: int(feed(text)["input_ids"].shape[1]))
    return [_Group(name, texts, [feed(text) for text in texts]) for name, texts in by_name.items()]


def _classifying(classifier: Classifier) -> _Answering:
    """Answer as a caller would, tokenization included."""
    return lambda text, feed: classifier.classify([text.text], None if text.target is None else [text.target])


def _times(answers: dict[str, _Answering], peers: Sequence[Peer], group: _Group) -> dict[str, list[float]]:
    """Milliseconds of every text, by variant. They take turns at going first, since the next one finds warm caches."""
    times: dict[str, list[float]] = {name: [] for name in [*answers, *(peer.name for peer in peers)]}
    names = list(answers)
    stage = "time texts as given" if group.name == MIX else f"time texts of {group.name} tokens"
    for start in range(0, len(group.texts), TURN):
        tell_progress(stage, start, len(group.texts))
        for at in range(start, min(start + TURN, len(group.texts))):
            text, feed = group.texts[at], group.feeds[at]
            for name in names[at % len(names) :] + names[: at % len(names)]:
                times[name].append(milliseconds(partial(answers[name], text, feed)))
        for peer in peers:
            times[peer.name] += peer.times_ms(group.texts[start : start + TURN])
    return times


def _variants(times: dict[str, dict[str, list[float]]], facts: dict[str, Facts]) -> dict[str, VariantFigures]:
    """The report's rows, by variant."""
    groups: dict[str, dict[str, Times]] = {
        name: {group: summary(by_name[name]) for group, by_name in times.items()} for name in times[MIX]
    }
    limits = groups[LIMIT]
    return {name: VariantFigures.of(by_group, facts[name], limits[MIX].p50_ms, limits) for name, by_group in groups.items()}


def _batch_change(classifier: Classifier, texts: list[Text]) -> float:
    """The largest change of a probability when texts are passed together."""
    some = texts[: BATCH * N_BATCHES]
    together = classifier.probs(*texts_and_targets(some))
    alone = [classifier.probs(*texts_and_targets([text]))[0] for text in some]
    return float(np.abs(together - np.array(alone)).max())


def _bare_batch_change(classifier: Classifier, feeds: list[Feeds]) -> float:
    """The same for the bare session, which needs padding: the effect of a batch on the graph's own output."""
    change = 0.0
    for start in range(0, min(len(feeds), BATCH * N_BATCHES), BATCH):
        group = feeds[start : start + BATCH]
        batch = padded(group, 0, max(feed["input_ids"].shape[1] for feed in group))  # any id will do, since it is masked
        alone = np.concatenate([classifier.run(feed) for feed in group])
        together = _probs(classifier, classifier.run(batch))
        change = max(change, float(np.abs(together - _probs(classifier, alone)).max()))
    return change


def _probs(classifier: Classifier, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probabilities of logits [B, C], of all questions."""
    heads = classifier.scorer.heads
    if heads is None:
        return softmax(logits, classifier.manifest.temperature)
    return np.array([heads.probs(row) for row in logits.tolist()])


def _scaling(classifier: Classifier, texts: list[Text]) -> float | None:
    """Throughput of two threads divided by that of one, the median of a few turns; None with one core."""
    if usable_cores() < 2:
        return None
    rates = [[in_process_rps(classifier, texts, SCALING_S, n_threads) for n_threads in (2, 1)] for _ in range(N_SCALINGS)]
    return median(two / one for two, one in rates)


def _facts(bundle: Path, texts: list[Text], config: BundleBenchConfig, change: float) -> Facts:
    """Start-up time and memory as medians over fresh processes, and the bundle's size."""
    starts = _starts(bundle, texts, config)
    size = sum(path.stat().st_size for path in bundle.iterdir())
    return Facts(median(start_s for start_s, _ in starts), median(rss for _, rss in starts) / 1e6, size, change)


def _starts(bundle: Path, texts: list[Text], config: BundleBenchConfig) -> list[tuple[float, int]]:
    """(seconds to the first answer, resident bytes) of each fresh process."""
    unique = list(dict.fromkeys((text.text, text.target) for text in texts))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_bytes(msgspec.json.encode(unique))
        return [_start(bundle, file, trust=config.trust) for _ in range(config.n_starts)]


def _start(bundle: Path, texts: Path, *, trust: bool) -> tuple[float, int]:
    """(seconds to the first answer, resident bytes) of one fresh process."""
    command = [sys.executable, "-m", "potstill.serve.bench.fresh_process", str(bundle), str(texts), *([TRUST] if trust else [])]
    start_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{bundle}: a fresh process could not answer: {''.join(last)}")
    fresh = msgspec.json.decode(done.stdout, type=FreshProcess)
    return fresh.first_answer_s - start_s, fresh.rss_bytes
