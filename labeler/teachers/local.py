"""The teacher in this process: a GGUF model whose paths are all decoded together over one shared KV cache.

Sequence 0 holds the prefix of a prompt variant. Each text forks it, each path forks its text. Where no context of many sequences
can be made, the paths take turns in one. Decoded prefixes and measured settings are kept on disk for the next start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from potstill.contract.errors import UserError
from potstill.contract.files import atomic, digest
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.threads import Waiting
from potstill.labeler.config import LocalConfig
from potstill.labeler.engine import autotune
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama import ON_THE_CPU, EngineConfig, LlamaEngine, NoContextError, Token
from potstill.labeler.engine.pace import Pace, thread_candidates
from potstill.labeler.engine.scheduler import Scheduler
from potstill.labeler.engine.sequences import PREFIX, Sequences, TimeSharedSequences
from potstill.labeler.engine.shared_texts import SharedTextScheduler, shared_config, shared_single_config, shared_tokens
from potstill.labeler.engine.tokens import LabelWords, PromptTokens
from potstill.labeler.engine.variant_context import VariantContext, engine_config, single_sequence_config
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, QuestionRequests, TeacherPath, TooLong, never

MAX_CACHE_BYTES = 2_000_000_000  # of all saved prefixes together; the least recently used are deleted first
_N_DIGEST = hashlib.sha256().digest_size


BUSY = f"; it is busy with other work, so a start in more than {autotune.BUSY_MINUTES} minutes measures again"
# Settings where no context of many sequences can be made to measure in.
UNMEASURED = EngineSettings(2, 512, n_live_paths=16, flash_attention=False, prompt_tokens_per_s=0.0, path_tokens_per_s=0.0)
# Settings of a deterministic run, in place of a measurement: the same on every machine.
DETERMINISTIC = LocalConfig(n_threads=2, n_batch=512, n_live_paths=24, flash_attention=False)


class LocalTeacher:
    """Draws paths from a GGUF model. Keeps its context, and the prefix in it, between calls."""

    def __init__(
        self, engine: LlamaEngine, identity: Identity, config: LocalConfig, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Take over an engine; :meth:`close` closes it. Args: tell, called with a message for the user before a slow step."""
        if engine.load.needs_flash_attention:
            config = dataclasses.replace(config, flash_attention=True)
        self._engine, self._identity, self._config, self._tell = engine, identity, config, tell
        self._settings = _stated(DETERMINISTIC if config.deterministic else config, config)
        self._pace: Pace | None = None  # of the threads, once their number is known
        self._loaded: list[int] | None = None  # tokens of the prefix, while the cache holds it and nothing else
        self._sequences: Sequences = engine
        self._told_one_by_one = False
        self.measures_again = False  # whether the next start measures its settings once more, as nothing could be kept of this one

    @property
    def identity(self) -> Identity:
        """The model file and the build that answer."""
        return self._identity

    @property
    def cache_bytes(self) -> int:
        """Current size of the KV cache."""
        return self._engine.cache_bytes

    @property
    def _kind(self) -> list[str]:
        """What measurements and decoded prefixes on disk belong to: model, build, and where and how it is loaded."""
        load = self._engine.load
        loaded = [] if load == ON_THE_CPU else [f"{load.n_gpu_layers} layers on a GPU, cache {load.kv_type}"]
        return [self._identity.digest, self._identity.build, *loaded]

    def close(self) -> None:
        """Close the engine; safe to call twice."""
        if self._pace and self._pace.waiting:
            self._pace.waiting.close()
        self._engine.close()

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Draw every requested path; see :class:`potstill.labeler.teacher.Teacher`.

        Raises:
            UserError: if the prefix alone overfills the model's context, or llama.cpp fails.
        """
        engine = self._engine
        if not requests:
            return
        words = LabelWords.of(engine, spec)
        prompts = PromptTokens(engine, prefix, [request.prompt for request in requests], spec, words.n_back)
        n_asked = max(len(request.words) for request in requests)
        shared = len(prompts.shared)
        context = VariantContext(engine, words, spec, variant, run_seed, shared, prompts.without_rationale, n_asked=n_asked)
        n_free = engine.n_ctx_train - len(prompts.shared) - context.n_after_prompt
        if n_free < 1:
            raise UserError(
                f"the prompt's shared part takes {len(prompts.shared)} of the model's {engine.n_ctx_train} tokens and leaves none "
                "for a text; shorten the guideline or the examples, or use a teacher with a longer context"
            )
        tokenized = list(zip(requests, prompts.rests, strict=True))
        yield from (TooLong(request.text_id, len(tokens), n_free) for request, tokens in tokenized if len(tokens) > n_free)
        fitting = [(request, tokens) for request, tokens in tokenized if len(tokens) <= n_free]
        if fitting:
            found = self._begin(
                prompts.shared,
                [context],
                lambda settings: engine_config(settings, context, fitting),
                lambda settings: single_sequence_config(settings, context, fitting),
            )
            self._loaded = None  # until all streams have ended, the cache holds more than the prefix
            yield from Scheduler(context, fitting, found.n_live_paths, enough, self._pace).paths(self._tell)
            self._loaded = prompts.shared

    def answer_together(
        self, prefix: str, variant: int, asked: Sequence[QuestionRequests], run_seed: int
    ) -> Iterator[TeacherPath | TooLong]:
        """Draw the requested paths of several questions; what they share of a text is decoded once.

        Each path is what :meth:`answer` gives for the same prompt, and names its question.

        Args:
            prefix: the part of the prompt that all requests of all questions share.
            asked: at least one question, each under its own key.
        Raises:
            UserError: as :meth:`answer`.
        """
        engine = self._engine
        asked = [one for one in asked if one.requests]
        if not asked:
            return
        tokens = shared_tokens(engine, prefix, variant, asked, run_seed)
        n_free = engine.n_ctx_train - len(tokens.shared) - max(context.n_after_prompt for context in tokens.contexts)
        if n_free < 1:
            raise UserError(
                f"the prompt's shared part takes {len(tokens.shared)} of the model's {engine.n_ctx_train} tokens and leaves none "
                "for a text; shorten the guidelines or the examples, or use a teacher with a longer context"
            )
        fitting, too_long = tokens.fitting(n_free)
        yield from too_long
        for texts in fitting:
            found = self._begin(
                tokens.shared,
                tokens.contexts,
                partial(shared_config, texts=texts),
                partial(shared_single_config, texts=texts),
            )
            self._loaded = None  # until all streams have ended, the cache holds more than the prefix
            yield from SharedTextScheduler(texts, found.n_live_paths, self._pace).paths(self._tell)
            self._loaded = tokens.shared

    def count_tokens(self, prefix: str, prompts: Sequence[str], spec: AnswerSpec | None) -> tuple[int, list[int]]:
        """Number of tokens of the shared part, and of each prompt after it; without a spec, of plain texts on their own.

        Raises:
            UserError: if the label words cannot be told apart, so that a dry run says it.
        """
        if spec is None:
            return 0, [len(self._engine.tokenize(prompt)) for prompt in prompts]
        LabelWords.of(self._engine, spec)
        tokens = PromptTokens(self._engine, prefix, prompts, spec)
        return len(tokens.shared), [len(rest) for rest in tokens.rests]

    def settings_after(self, prefix: str, prompt: str, spec: AnswerSpec) -> EngineSettings:
        """The engine settings for such prompts with their speed, which is measured even where the settings are stated."""
        shared = PromptTokens(self._engine, prefix, [prompt], spec).shared
        found = self.engine_settings(shared)
        if found.path_tokens_per_s:
            return found
        self._loaded = None
        if found.n_live_paths > 1:
            try:
                return autotune.measured(self._engine, shared, [found.n_threads])
            except NoContextError:
                pass  # paths will be drawn one at a time
        return autotune.measured_single(self._engine, shared, found)

    def engine_settings(self, prefix: list[int]) -> EngineSettings:
        """The engine settings for prefixes of about this length, measured unless all of them are stated.

        Args:
            prefix: tokens of the shared part of the prompts.
        """
        config = self._config
        if self._settings is not None:
            return self._settings
        if config.n_live_paths == 1:  # nothing to choose: nearly all decodes take one token
            self._settings = EngineSettings(
                config.n_threads or usable_cores(), config.n_batch or 512, 1, bool(config.flash_attention), 0.0, 0.0
            )
            return self._settings
        threads = [config.n_threads] if config.n_threads else sorted({usable_cores(), -(-usable_cores() // 2)}, reverse=True)
        key = digest.of_value([*self._kind, threads, -(-len(prefix) // 256), "pace"])
        found = autotune.remembered(config.cache, key) if config.cache else None
        if found is None:
            busy = autotune.is_busy()
            self.measures_again = busy or not config.cache
            self._tell("measuring how this machine draws paths fastest" + (BUSY if busy else ""))
            self._loaded = None
            try:
                found = autotune.measured(self._engine, prefix, threads)
                if config.cache:
                    autotune.remember(config.cache, key, found, busy=busy)
            except NoContextError:
                found = replace(UNMEASURED, n_threads=threads[0])
        self._settings = EngineSettings(
            n_threads=found.n_threads,
            n_batch=config.n_batch or found.n_batch,
            n_live_paths=config.n_live_paths or found.n_live_paths,
            flash_attention=found.flash_attention if config.flash_attention is None else config.flash_attention,
            prompt_tokens_per_s=found.prompt_tokens_per_s,
            path_tokens_per_s=found.path_tokens_per_s,
        )
        return self._settings

    def _begin(
        self,
        prefix: list[int],
        contexts: Sequence[VariantContext],
        many: Callable[[EngineSettings], EngineConfig],
        single: Callable[[EngineSettings], EngineConfig],
    ) -> EngineSettings:
        """Make a context with the prefix in it, for as many live paths as memory and model allow; returns the settings in use.

        Args:
            contexts: that will decode in it.
            many, single: the size of a context for many sequences, and for one.
        """
        found, refusal = self.engine_settings(prefix), ""
        while found.n_live_paths > 1:
            try:
                self._load(prefix, many(found))
                break
            except NoContextError as error:
                refusal = str(error)
                found = replace(found, n_live_paths=found.n_live_paths // 2)
        if found.n_live_paths == 1:
            self._load(prefix, single(found))
            if not self._told_one_by_one:
                self._tell(
                    f"drawing paths one at a time in a context of one sequence, which is slower: {refusal or '--parallel 1'}"
                )
            self._told_one_by_one = True
        elif refusal:
            self._tell(f"drawing {found.n_live_paths} paths at once, which is slower than more: {refusal}")
        self._settings = found
        for context in contexts:
            context.sequences = self._sequences
        self._choose_pace(found.n_threads)
        return found

    def _choose_pace(self, n_threads: int) -> None:
        """Let how threads wait follow what else runs, and their number too, unless that is stated or fixed for equal bits."""
        if self._engine.load.n_gpu_layers:
            return  # threads have little to do
        if self._pace is None:
            fixed = self._config.n_threads or self._config.deterministic
            self._pace = Pace([n_threads] if fixed else thread_candidates(usable_cores()), n_threads, Waiting())
        self._engine.set_threads(self._pace.n_threads)  # a new context begins with the measured number

    def _load(self, prefix: list[int], wanted: EngineConfig) -> None:
        """Make a context of at least that size which holds the prefix and nothing else."""
        now = self._engine.config
        large_enough = now.n_cells >= wanted.n_cells and now.n_sequences >= wanted.n_sequences
        alike = now.n_batch >= wanted.n_batch and now.flash_attention == wanted.flash_attention
        alike = alike and (now.n_sequences == 1) == (wanted.n_sequences == 1)
        if self._loaded == prefix and large_enough and alike and not self._config.deterministic:
            return
        self._loaded = None
        self._engine.start(wanted)
        self._sequences = TimeSharedSequences(self._engine, prefix) if wanted.n_sequences == 1 else self._engine
        key = digest.of_value([*self._kind, prefix, wanted.n_batch, wanted.flash_attention])
        state = load_state(self._config.cache, key) if self._config.cache else None
        if state and self._engine.restore(state, PREFIX):
            return
        for start in range(0, len(prefix), wanted.n_batch):
            chunk = prefix[start : start + wanted.n_batch]
            self._engine.decode([Token(t, start + i, PREFIX) for i, t in enumerate(chunk)])
        if self._config.cache:
            save_state(self._config.cache, key, self._engine.state(PREFIX))


def _stated(config: LocalConfig, over: LocalConfig) -> EngineSettings | None:
    """The settings of a configuration, overridden by those of another one; None if a value is in neither."""
    n_threads, n_batch = over.n_threads or config.n_threads, over.n_batch or config.n_batch
    n_live_paths = over.n_live_paths or config.n_live_paths
    flash = config.flash_attention if over.flash_attention is None else over.flash_attention
    if n_threads is None or n_batch is None or n_live_paths is None or flash is None:
        return None
    return EngineSettings(n_threads, n_batch, n_live_paths, flash, prompt_tokens_per_s=0.0, path_tokens_per_s=0.0)


# Decoded prefixes on disk


def load_state(folder: Path, key: str) -> bytes | None:
    """Read the state with that key; None if there is none, or it is damaged."""
    path = folder / f"{key}.kv"
    try:
        data = path.read_bytes()
        os.utime(path)  # used now
    except OSError:
        return None
    state = data[_N_DIGEST:]
    return state if hashlib.sha256(state).digest() == data[:_N_DIGEST] else None


def save_state(folder: Path, key: str, state: bytes) -> None:
    """Store a state under the key, atomically. A write error is ignored: only time is lost."""
    data = hashlib.sha256(state).digest() + state
    if len(data) > MAX_CACHE_BYTES:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder.glob("*.kv"), len(data))
        atomic.write_file(folder / f"{key}.kv", data)
    except (OSError, UserError):
        pass


def _make_room(files: Iterable[Path], n_bytes: int) -> None:
    """Delete the least recently used files until ``n_bytes`` more fit."""
    found = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in files), reverse=True)
    total = n_bytes
    for _, size, path in found:
        total += size
        if total > MAX_CACHE_BYTES:
            path.unlink(missing_ok=True)
