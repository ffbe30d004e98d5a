"""Benchmark parts on our own engine, and their upper limit: llama.cpp's plain prompt processing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from potstill.labeler.bench.turns import Turn
from potstill.labeler.bench.workload import TokenCounts, Workload
from potstill.labeler.config import LocalConfig, Pack
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, LoadConfig, Token
from potstill.labeler.engine.sequences import PREFIX
from potstill.labeler.teacher import Mode, TeacherPath, TooLong
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local

LIMIT_BATCH = 512  # tokens per decode of the limit; larger batches were never faster


class TimedEngine(LlamaEngine):
    """An engine that sums up the seconds for contexts and shared prefixes, which a run pays once, however many texts follow."""

    set_up_s = 0.0

    def start(self, config: EngineConfig) -> None:
        """Timed :meth:`LlamaEngine.start`."""
        began = time.perf_counter()
        super().start(config)
        self.set_up_s += time.perf_counter() - began

    def restore(self, state: bytes, sequence: int) -> bool:
        """Timed :meth:`LlamaEngine.restore`."""
        began = time.perf_counter()
        restored = super().restore(state, sequence)
        self.set_up_s += time.perf_counter() - began
        return restored

    def decode(self, tokens: Sequence[Token]) -> list[int]:
        """Timed :meth:`LlamaEngine.decode`."""
        began = time.perf_counter()
        rows = super().decode(tokens)
        if all(token.sequence == PREFIX for token in tokens):
            self.set_up_s += time.perf_counter() - began
        return rows


@dataclass(frozen=True)
class TeacherOpening:
    """Opens a teacher as `potstill label` does."""

    name: str
    config: LocalConfig
    pack: Pack = "auto"

    def teacher(self, open_engine: Callable[[Path, LoadConfig], LlamaEngine] = LlamaEngine) -> LocalTeacher:
        """Open the teacher; raises UserError if it cannot be loaded."""
        return open_local(self.name, pack=self.pack, config=self.config, open_engine=open_engine)


class EnginePart:
    """One labelling run over all texts, paused at the end of each turn.

    A turn ends when as many paths are complete as its texts have; other texts are in progress then. So no turn waits for its last
    path with a batch that empties, which a long run does only once.
    """

    def __init__(self, name: str, load: Workload, teacher: LocalTeacher, mode: Mode, n_variants: int | None = None) -> None:
        """Take over the teacher. Args: n_variants, the first of the mode's prompt variants to use; None: all."""
        self.name, self._load, self._teacher = name, load, teacher
        self._variants = load.prompt_variants(mode)[:n_variants]
        self._n_paths = sum(len(variant.paths) for variant in self._variants)
        self._results = self._run(len(load.texts))

    def warm_up(self) -> None:
        """Label one text, which measures the best settings and keeps the decoded prefixes."""
        list(self._run(1))

    def turn(self, rows: range) -> Turn:
        """Draw as many paths as these texts have."""
        began = time.perf_counter()
        last = rows.stop == len(self._load.texts)
        paths = list(self._results if last else islice(self._results, len(rows) * self._n_paths))
        return Turn(time.perf_counter() - began, sum(map(_n_tokens, paths)))

    def close(self) -> None:
        """Stop the run and close the teacher."""
        self._teacher.close()

    def _run(self, n: int) -> Iterator[TeacherPath | TooLong]:
        """Every path of the first ``n`` texts, one prompt variant after the other."""
        load, teacher = self._load, self._teacher
        return chain.from_iterable(
            teacher.answer(variant.prefix, variant.number, load.requests(variant)[:n], variant.spec, load.seed)
            for variant in self._variants
        )


class WithoutSetUp:
    """A part whose time excludes making contexts and decoding shared prefixes."""

    def __init__(self, part: EnginePart, engine: TimedEngine) -> None:
        """Args: engine, the one that the part's teacher runs on."""
        self.name, self._part, self._engine = part.name, part, engine

    def warm_up(self) -> None:
        """Warm up the part."""
        self._part.warm_up()

    def turn(self, rows: range) -> Turn:
        """The part's turn, without the set-up in it."""
        before_s = self._engine.set_up_s
        turn = self._part.turn(rows)
        return Turn(turn.seconds - (self._engine.set_up_s - before_s), turn.n_tokens)

    def close(self) -> None:
        """Close the part."""
        self._part.close()


class Limit:
    """The best case for llama.cpp: batches of one sequence, an empty cache for each, logits of the last token only."""

    name = "limit"

    def __init__(self, load: Workload, counts: TokenCounts, model: Path, n_threads: int) -> None:
        """Make a context that holds one batch."""
        size = LIMIT_BATCH
        self._n_texts = len(load.texts)
        self._batches = [counts.direct[start : start + size] for start in range(0, len(counts.direct), size)]
        self._engine = LlamaEngine(model)
        self._engine.start(EngineConfig(n_cells=size, n_batch=size, n_sequences=1, n_threads=n_threads))

    def warm_up(self) -> None:
        """Decode one batch."""
        self._decode(self._batches[0])

    def turn(self, rows: range) -> Turn:
        """Run the share of the batches that corresponds to these texts."""
        first, last = (len(self._batches) * row // self._n_texts for row in (rows.start, rows.stop))
        began = time.perf_counter()
        for batch in self._batches[first:last]:
            self._decode(batch)
        return Turn(time.perf_counter() - began, sum(map(len, self._batches[first:last])))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _decode(self, batch: list[int]) -> None:
        """Decode one batch into an empty cache."""
        self._engine.free(PREFIX)
        (row,) = self._engine.decode([Token(t, i, PREFIX, i == len(batch) - 1) for i, t in enumerate(batch)])
        self._engine.logits(row)


def label_part(name: str, load: Workload, opening: TeacherOpening, mode: Mode) -> EnginePart:
    """The part that labels with all of the mode's prompt variants."""
    return EnginePart(name, load, opening.teacher(), mode)


def efficiency_part(load: Workload, opening: TeacherOpening, model: Path) -> WithoutSetUp:
    """The part that labels with one variant of `direct`, timed without set-up."""
    engine = TimedEngine(model)
    part = EnginePart("one_variant", load, opening.teacher(lambda _path, _load: engine), "direct", n_variants=1)
    return WithoutSetUp(part, engine)


def _n_tokens(path: TeacherPath | TooLong) -> int:
    """Number of tokens decoded for a path; a text's prompt counts once per prompt variant."""
    if isinstance(path, TooLong):
        return 0
    first_of_variant = path.path == path.variant
    return path.n_generated + (path.n_prompt_tokens if first_of_variant else 0)
