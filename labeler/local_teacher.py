"""The teacher in this process: a GGUF whose paths are all stepped together over one shared KV cache.

Sequence 0 holds the prefix of a prompt variant. Each text forks it, each path forks its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract import digest
from contract.cores import usable_cores
from contract.errors import UserError
from labeler import pace, prefix_store
from labeler.draw import Draw
from labeler.label_words import LabelWords
from labeler.llama_engine import EngineConfig, LlamaEngine, Token
from labeler.pace import Pace
from labeler.paths import Ask, TeacherPath, TooLong
from labeler.prompt_tokens import PromptTokens
from labeler.scheduler import PREFIX, Scheduler
from labeler.teacher import Enough, Identity, Reading, never

CELL_BLOCK = 256  # llama.cpp rounds the cache up to this many cells
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of the pinned build


@dataclass(frozen=True)
class LocalConfig:
    """How much runs at once. What is None is measured on this machine before the first path is drawn."""

    n_threads: int | None = None  # None: the usable cores, or half of them
    n_batch: int | None = None  # tokens of one decode
    n_live_paths: int | None = None  # sampled paths that are stepped together
    flash_attention: bool | None = None  # for sampled paths; prompts alone always use it
    cache: Path | None = None  # folder that keeps decoded prefixes and measurements; None keeps nothing
    deterministic: bool = False  # every call starts from an empty context, and the schedule is a fixed one


BUSY = "; it is busy with other work, so the next start measures again"
# What a deterministic run takes in place of a measurement: the same on every machine.
DETERMINISTIC = LocalConfig(n_threads=2, n_batch=512, n_live_paths=24, flash_attention=False)


class LocalTeacher:
    """Draws paths from a GGUF file. Keeps its context and the prefix in it between calls."""

    def __init__(
        self, engine: LlamaEngine, identity: Identity, config: LocalConfig, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Take over an engine; :meth:`close` closes it. Args: tell, takes a line for a person when something takes a while."""
        self._engine, self._identity, self._config, self._tell = engine, identity, config, tell
        self._pace = _stated(DETERMINISTIC if config.deterministic else config, config)
        self._loaded: list[int] | None = None  # tokens of the prefix in the cache, while nothing else is

    @property
    def identity(self) -> Identity:
        """The file and the build that answer."""
        return self._identity

    @property
    def cache_bytes(self) -> int:
        """Size of its KV cache now."""
        return self._engine.cache_bytes

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def answer(
        self, prefix: str, variant: int, asks: Sequence[Ask], reading: Reading, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Every wanted path, each as soon as it is complete; see :class:`labeler.teacher.Teacher`.

        Raises:
            UserError: if the prefix alone overfills the model's context, or llama.cpp fails.
        """
        engine = self._engine
        if not asks:
            return
        prompts = PromptTokens(engine, prefix, asks[0].prompt, reading)
        draw = Draw(engine, LabelWords.of(engine, reading), reading, variant, run_seed, len(prompts.shared))
        n_free = engine.n_ctx_train - len(prompts.shared) - draw.n_after_prompt
        if n_free < 1:
            raise UserError(
                f"the prompt's shared part takes {len(prompts.shared)} of the model's {engine.n_ctx_train} tokens and leaves none "
                "for a text; shorten the guideline or the examples, or use a teacher with a longer context"
            )
        tokenized = [(ask, prompts.of(ask.prompt)) for ask in asks]
        yield from (TooLong(ask.text_id, len(tokens), n_free) for ask, tokens in tokenized if len(tokens) > n_free)
        fitting = [(ask, tokens) for ask, tokens in tokenized if len(tokens) <= n_free]
        if fitting:
            found = self.pace(prompts.shared)
            self._load(prompts.shared, _engine_config(found, draw, fitting))
            self._loaded = None  # until all streams have ended, the cache holds more than the prefix
            yield from Scheduler(draw, fitting, found.n_live_paths, enough).paths()
            self._loaded = prompts.shared

    def count_tokens(self, prefix: str, prompts: Sequence[str], reading: Reading | None) -> tuple[int, list[int]]:
        """Tokens of the shared part and, of each prompt, after it; without a reading, of plain texts that stand alone."""
        if reading is None:
            return 0, [len(self._engine.tokenize(prompt)) for prompt in prompts]
        tokens = PromptTokens(self._engine, prefix, prompts[0], reading)
        return len(tokens.shared), [len(tokens.of(prompt)) for prompt in prompts]

    def pace_after(self, prefix: str, prompt: str, reading: Reading) -> Pace:
        """How fast this machine is with such prompts; measured even where the settings are stated."""
        shared = PromptTokens(self._engine, prefix, prompt, reading).shared
        found = self.pace(shared)
        if not found.path_tokens_per_s:
            self._loaded = None
            found = pace.measured(self._engine, shared, [found.n_threads])
        return found

    def pace(self, prefix: list[int]) -> Pace:
        """How much runs at once, and how fast; measured for prefixes of about this length unless all of it was stated.

        Args:
            prefix: tokens of the shared part of the prompts.
        """
        config = self._config
        if self._pace is not None:
            return self._pace
        threads = [config.n_threads] if config.n_threads else sorted({usable_cores(), -(-usable_cores() // 2)}, reverse=True)
        key = digest.of_value([self._identity.digest, self._identity.build, threads, -(-len(prefix) // 256), "pace"])
        found = pace.remembered(config.cache, key) if config.cache else None
        if found is None:
            busy = pace.is_busy()
            self._tell("measuring how this machine draws paths fastest" + BUSY * busy)
            found = pace.measured(self._engine, prefix, threads)
            self._loaded = None
            if config.cache and not busy:
                pace.remember(config.cache, key, found)
        self._pace = Pace(
            n_threads=found.n_threads,
            n_batch=config.n_batch or found.n_batch,
            n_live_paths=config.n_live_paths or found.n_live_paths,
            flash_attention=found.flash_attention if config.flash_attention is None else config.flash_attention,
            prompt_tokens_per_s=found.prompt_tokens_per_s,
            path_tokens_per_s=found.path_tokens_per_s,
        )
        return self._pace

    def _load(self, prefix: list[int], wanted: EngineConfig) -> None:
        """A context of at least that size with the prefix, and nothing else, in it."""
        now = self._engine.config
        large_enough = now.n_cells >= wanted.n_cells and now.n_sequences >= wanted.n_sequences
        alike = now.n_batch >= wanted.n_batch and now.flash_attention == wanted.flash_attention
        if self._loaded == prefix and large_enough and alike and not self._config.deterministic:
            return
        self._engine.start(wanted)
        key = digest.of_value([self._identity.digest, self._identity.build, prefix, wanted.n_batch, wanted.flash_attention])
        state = prefix_store.load(self._config.cache, key) if self._config.cache else None
        if state and self._engine.restore(state, PREFIX):
            return
        for start in range(0, len(prefix), wanted.n_batch):
            chunk = prefix[start : start + wanted.n_batch]
            self._engine.decode([Token(t, start + i, PREFIX) for i, t in enumerate(chunk)])
        if self._config.cache:
            prefix_store.save(self._config.cache, key, self._engine.state(PREFIX))


def _engine_config(found: Pace, draw: Draw, asks: list[tuple[Ask, list[int]]]) -> EngineConfig:
    """A context that holds the prefix, a full batch of prompts, and the paths that live at once."""
    longest = max(len(tokens) for _, tokens in asks)
    most_paths = max(ask.n_at_once for ask, _ in asks)
    sequences_per_text = draw.n_sequences(most_paths)
    # Paths that share their tokens are one stream, so twice the texts keep the wanted number of streams alive.
    n_texts = -(-2 * found.n_live_paths // most_paths) if draw.samples else found.n_batch // 8
    n_texts = min(max(1, n_texts), len(asks), (MAX_SEQUENCES - 1) // sequences_per_text)
    if n_texts < 1:
        raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
    cells = draw.prefix_length + n_texts * draw.n_cells(longest, most_paths)
    if not draw.samples:  # prompts live for one batch only
        cells = draw.prefix_length + found.n_batch + 2 * longest + n_texts * draw.n_cells(0, 1)
    return EngineConfig(
        n_cells=-(-cells // CELL_BLOCK) * CELL_BLOCK,
        n_batch=max(found.n_batch, 1 + n_texts * sequences_per_text),
        n_sequences=1 + n_texts * sequences_per_text,
        n_threads=found.n_threads,
        flash_attention=found.flash_attention if draw.samples else True,
    )


def _stated(config: LocalConfig, over: LocalConfig) -> Pace | None:
    """The pace that a configuration states, with what another one states in its place; None where something is left open."""
    n_threads, n_batch = over.n_threads or config.n_threads, over.n_batch or config.n_batch
    n_live_paths = over.n_live_paths or config.n_live_paths
    flash = config.flash_attention if over.flash_attention is None else over.flash_attention
    if n_threads is None or n_batch is None or n_live_paths is None or flash is None:
        return None
    return Pace(n_threads, n_batch, n_live_paths, flash, prompt_tokens_per_s=0.0, path_tokens_per_s=0.0)
