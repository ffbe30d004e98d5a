"""Measure which settings draw paths fastest on this machine: threads, batch size, live paths, kind of attention.

No rule holds everywhere. Plain attention reads the whole cache as one matrix product and wins with few live paths; flash attention
reads only each token's own cells, but below 64 tokens per decode one token after the other (docs/log.md). More live paths share
each pass over the weights, and lengthen the cache that each of them attends over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, Token

LIVE_PATHS = {False: (16, 24, 32), True: (64,)}  # numbers to try, by whether flash attention is on; it is slow below 64
BATCHES = (256, 512)  # tokens per decode; larger batches were never faster
N_TEXT = 32  # tokens of a made-up text
CLEARLY_FASTER = 1.15  # fewer threads or a smaller batch must be faster by this factor: less may be noise of other work
FLASH_FASTER = 1.25
_PATHS_PER_TEXT = 8
_N_STEPS = 3  # timed steps; the fastest counts, because other work on the machine only ever slows a step


class EngineSettings(msgspec.Struct, frozen=True):
    """How much the engine does at once, and how fast that is on this machine; a speed of 0 was not measured."""

    n_threads: int
    n_batch: int
    n_live_paths: int
    flash_attention: bool  # for sampled paths
    prompt_tokens_per_s: float
    path_tokens_per_s: float  # sampled tokens of all live paths together


@dataclass(frozen=True)
class _Bench:
    """An engine to measure, and tokens to feed it; its context is replaced several times."""

    engine: LlamaEngine
    prefix: list[int]

    def start(self, config: EngineConfig) -> None:
        """Make a context with the prefix in sequence 0."""
        self.engine.start(config)
        for start in range(0, len(self.prefix), config.n_batch):
            chunk = self.prefix[start : start + config.n_batch]
            self.engine.decode([Token(t, start + i, 0) for i, t in enumerate(chunk)])

    def texts(self, sequences: Sequence[int]) -> list[Token]:
        """Fork the prefix into each of the sequences; returns the tokens of one text for each."""
        for sequence in sequences:
            self.engine.fork(0, sequence)
        n = len(self.prefix)
        return [
            Token(self.prefix[i % n], n + i, sequence, wants_logits=i == N_TEXT - 1)
            for sequence in sequences
            for i in range(N_TEXT)
        ]

    def seconds(self, tokens: list[Token]) -> float:
        """Duration of one decode."""
        began = time.perf_counter()
        self.engine.decode(tokens)
        return time.perf_counter() - began


def measured(engine: LlamaEngine, prefix: list[int], threads: Sequence[int]) -> EngineSettings:
    """Find the fastest settings for drawing paths after this prefix.

    Args:
        engine: its context is replaced.
        prefix: tokens of the shared prefix, at least one.
        threads: the numbers of threads to try, at least one.
    """
    bench = _Bench(engine, prefix)
    n_texts, most = BATCHES[-1] // N_TEXT, max(LIVE_PATHS[True])
    n_cells = len(prefix) + 2 * BATCHES[-1] + most * (_N_STEPS + 2) + 256
    bench.start(EngineConfig(n_cells, BATCHES[-1], max(n_texts, most) + 1, max(threads), flash_attention=True))
    by_threads = {n: _prompt_speed(bench, BATCHES[0] // 2, n) for n in threads}
    n_threads = max(by_threads, key=lambda n: by_threads[n] / (1 if n == max(threads) else CLEARLY_FASTER))
    by_batch = {n: _prompt_speed(bench, n, n_threads) for n in BATCHES}
    n_batch = max(by_batch, key=lambda n: by_batch[n] / (1 if n == max(BATCHES) else CLEARLY_FASTER))
    drawn = [(n / _step_seconds(bench, n), n, True) for n in LIVE_PATHS[True]]
    if not engine.load.needs_flash_attention:
        bench.start(replace(engine.config, flash_attention=False))
        drawn += [(n / _step_seconds(bench, n), n, False) for n in LIVE_PATHS[False]]
    # The number of live paths drops whenever texts end together, and below 64 flash attention is far slower.
    speed, n_live, flash = max(drawn, key=lambda found: found[0] / (FLASH_FASTER if found[2] else 1))
    return EngineSettings(n_threads, n_batch, n_live, flash, by_batch[n_batch], speed)


def measured_single(engine: LlamaEngine, prefix: list[int], settings: EngineSettings) -> EngineSettings:
    """The settings with their speeds in a context of one sequence: one text at a time, then one path.

    Args:
        engine: its context is replaced.
        prefix: tokens of the shared prefix, at least one.
    """
    bench, n = _Bench(engine, prefix), len(prefix)
    n_cells = n + N_TEXT + _N_STEPS + 1
    bench.start(EngineConfig(n_cells, settings.n_batch, 1, settings.n_threads, settings.flash_attention))
    text_s = bench.seconds([Token(prefix[i % n], n + i, 0, wants_logits=i == N_TEXT - 1) for i in range(N_TEXT)])
    steps = [bench.seconds([Token(prefix[0], n + N_TEXT + i, 0, wants_logits=True)]) for i in range(_N_STEPS + 1)]
    return msgspec.structs.replace(settings, prompt_tokens_per_s=N_TEXT / text_s, path_tokens_per_s=1 / min(steps[1:]))


def is_busy() -> bool:
    """Whether other work keeps this machine's cores busy, so that a measurement should not be kept."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1)


def remembered(folder: Path, key: str) -> EngineSettings | None:
    """Read an earlier measurement from this machine's cache; None if there is none or it is damaged."""
    try:
        return msgspec.json.decode((folder / f"{key}.json").read_bytes(), type=EngineSettings)
    except (OSError, msgspec.MsgspecError):
        return None


def remember(folder: Path, key: str, settings: EngineSettings) -> None:
    """Store a measurement. A write error is ignored: the next start measures again."""
    try:
        atomic.write_file(folder / f"{key}.json", msgspec.json.encode(settings))
    except UserError:
        pass


def _prompt_speed(bench: _Bench, n_batch: int, n_threads: int) -> float:
    """Prompt tokens per second, with n_batch tokens per decode."""
    bench.engine.set_threads(n_threads)
    sequences = range(1, n_batch // N_TEXT + 1)
    seconds = []
    for _ in range(2):  # the first one builds the graph
        seconds.append(bench.seconds(bench.texts(sequences)))
        for sequence in sequences:
            bench.engine.free(sequence)
    return n_batch / min(seconds)


def _step_seconds(bench: _Bench, n_live: int) -> float:
    """Seconds of one decode that advances n_live paths, eight per text."""
    engine, sequences = bench.engine, range(1, n_live + 1)
    for owner in sequences[::_PATHS_PER_TEXT]:
        engine.decode(bench.texts([owner]))
        for follower in range(owner + 1, owner + _PATHS_PER_TEXT):
            engine.fork(owner, follower)
    position = len(bench.prefix) + N_TEXT
    step = [Token(bench.prefix[0], position, sequence, wants_logits=True) for sequence in sequences]
    seconds = [bench.seconds([replace(token, position=position + i) for token in step]) for i in range(_N_STEPS + 1)]
    for sequence in sequences:
        engine.free(sequence)
    return min(seconds[1:])  # the first one builds the graph
