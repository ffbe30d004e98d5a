"""The teacher in this process: a GGUF whose paths are all stepped together over one shared KV cache.

Sequence 0 holds the prefix. Each text forks it, each path forks its text. Every step gathers the tokens that wait, prompt
tokens of new texts and next tokens of living paths alike, into one decode; what finishes makes room for the next text at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from contract.errors import UserError
from labeler.draw import Draw
from labeler.label_words import LabelWords
from labeler.llama_engine import EngineConfig, LlamaEngine, OutOfCellsError, Token
from labeler.paths import Ask, TeacherPath, TooLong
from labeler.streams import PromptStream, Stream, TextInWork
from labeler.teacher import Enough, Identity, Reading, never

PREFIX = 0  # sequence of the shared prefix


@dataclass(frozen=True)
class LocalConfig:
    """How much runs at once."""

    n_threads: int = 2
    n_batch: int = 512  # tokens of one decode
    n_live_paths: int = 24  # sampled paths that are stepped together
    flash_attention: bool = False  # for sampled paths; prompts alone always use it


@dataclass(frozen=True)
class _Seam:
    """Where the shared tokens end."""

    before: str  # text of the last shared token
    rest: str  # text of the prefix after it

    def tokens(self, engine: LlamaEngine, prompt: str) -> list[int]:
        """Tokens of a prompt, from the last shared one on."""
        return engine.tokenize_after(self.before, self.rest + prompt)


@dataclass
class _Work:
    """What one :meth:`LocalTeacher.answer` is in the middle of."""

    draw: Draw
    waiting: deque[tuple[Ask, list[int]]]
    enough: Enough
    free: list[int]  # sequence numbers
    texts: list[TextInWork] = field(default_factory=list)
    live: list[Stream] = field(default_factory=list)


class LocalTeacher:
    """Draws paths from a GGUF file. Keeps its context between calls."""

    def __init__(self, engine: LlamaEngine, identity: Identity, config: LocalConfig) -> None:
        """Take over an engine; :meth:`close` closes it."""
        self._engine, self._identity, self._config = engine, identity, config

    @property
    def identity(self) -> Identity:
        """The file and the build that answer."""
        return self._identity

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
        prefix_tokens, seam = self._shared(prefix, asks[0].prompt)
        words = LabelWords.of(engine, reading)
        draw = Draw(engine, words, reading, variant, run_seed, len(prefix_tokens))
        n_free = engine.n_ctx_train - len(prefix_tokens) - draw.n_after_prompt
        if n_free < 1:
            raise UserError(
                f"the prompt's shared part takes {len(prefix_tokens)} of the model's {engine.n_ctx_train} tokens and leaves none "
                "for a text; shorten the guideline or the examples, or use a teacher with a longer context"
            )
        tokenized = [(ask, seam.tokens(engine, ask.prompt)) for ask in asks]
        yield from (TooLong(ask.text_id, len(tokens), n_free) for ask, tokens in tokenized if len(tokens) > n_free)
        fitting = [(ask, tokens) for ask, tokens in tokenized if len(tokens) <= n_free]
        if fitting:
            engine.start(self._engine_config(draw, fitting))
            self._decode_prefix(prefix_tokens)
            yield from self._run(_Work(draw, deque(fitting), enough, list(range(engine.config.n_sequences - 1, PREFIX, -1))))

    def _shared(self, prefix: str, prompt: str) -> tuple[list[int], _Seam]:
        """Tokens of the prefix that stay the same whatever follows, and how to tokenize what does.

        Many vocabularies merge the prefix's last line breaks with each other or with the next word. Cutting there would show
        the teacher other tokens than the whole prompt has, and move its probabilities.
        """
        engine = self._engine
        alone, whole = engine.tokenize(prefix, start=True), engine.tokenize(prefix + prompt, start=True)
        n = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
        rest = b"".join(map(engine.piece, alone[n:])).decode("utf-8", "ignore")
        before = engine.piece(alone[n - 1]).decode("utf-8", "ignore") if n else ""
        return alone[:n], _Seam(before, rest)

    def _engine_config(self, draw: Draw, asks: list[tuple[Ask, list[int]]]) -> EngineConfig:
        """A context that holds the prefix, a full batch of prompts, and the paths that live at once."""
        longest = max(len(tokens) for _, tokens in asks)
        most_paths = max(len(ask.paths) for ask, _ in asks)
        sequences_per_text = draw.n_sequences(most_paths)
        # Paths that share their tokens are one stream, so twice the texts keep the wanted number of streams alive.
        n_texts = -(-2 * self._config.n_live_paths // most_paths) if draw.samples else self._config.n_batch // 8
        n_texts = min(max(1, n_texts), len(asks), (MAX_SEQUENCES - 1) // sequences_per_text)
        if n_texts < 1:
            raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
        cells = draw.prefix_length + n_texts * draw.n_cells(longest, most_paths)
        if not draw.samples:  # prompts live for one batch only
            cells = draw.prefix_length + self._config.n_batch + 2 * longest + n_texts * draw.n_cells(0, 1)
        return EngineConfig(
            n_cells=-(-cells // CELL_BLOCK) * CELL_BLOCK,
            n_batch=max(self._config.n_batch, 1 + n_texts * sequences_per_text),
            n_sequences=1 + n_texts * sequences_per_text,
            n_threads=self._config.n_threads,
            flash_attention=self._config.flash_attention if draw.samples else True,
        )

    def _decode_prefix(self, tokens: list[int]) -> None:
        """Put the prefix into its sequence."""
        n_batch = self._engine.config.n_batch
        for start in range(0, len(tokens), n_batch):
            chunk = tokens[start : start + n_batch]
            self._engine.decode([Token(t, start + i, PREFIX) for i, t in enumerate(chunk)])

    def _run(self, work: _Work) -> Iterator[TeacherPath]:
        """Step until nothing waits and nothing lives."""
        try:
            while work.waiting or work.live:
                self._admit(work)
                yield from self._step(work)
        finally:
            for stream in work.live:
                stream.close()
            for text in work.texts:
                text.close()

    def _admit(self, work: _Work) -> None:
        """Start as many waiting texts as keep a batch full, within the sequences and cells that are left."""
        draw, config = work.draw, self._engine.config
        n_pending = sum(len(stream.pending) for stream in work.live)
        n_streams = len(work.live)
        n_sequences = sum(text.n_sequences for text in work.texts)
        n_cells = draw.prefix_length + sum(text.n_cells for text in work.texts)
        while work.waiting and n_pending < config.n_batch and n_streams < self._config.n_live_paths:
            ask, tokens = work.waiting[0]
            n_sequences += draw.n_sequences(len(ask.paths))
            n_cells += draw.n_cells(len(tokens), len(ask.paths))
            if n_sequences >= config.n_sequences or n_cells > config.n_cells:  # the prefix has a sequence too
                if not work.live:
                    raise UserError(f"text {ask.text_id} needs {n_cells} cells of the cache and too few are free; lower --paths")
                return
            work.waiting.popleft()
            text = TextInWork(draw, ask, len(tokens), work.free)
            self._engine.fork(PREFIX, text.sequence)
            work.texts.append(text)
            work.live.append(PromptStream(text, tokens, draw.prefix_length))
            n_pending += len(tokens)
            n_streams += (ask.n_first or len(ask.paths)) if draw.samples else 0

    def _step(self, work: _Work) -> Iterator[TeacherPath]:
        """One decode, and what its logits lead to."""
        limit = self._engine.config.n_batch
        while True:
            chosen, tokens = _gather(work.live, limit, self._engine.config.n_sequences)
            try:
                rows = self._engine.decode(tokens)
                break
            except OutOfCellsError:
                if limit == 1:
                    raise UserError("the KV cache is full although nothing else runs; lower --paths or --parallel") from None
                limit = max(1, limit // 2)
        for stream, n_tokens in chosen:
            stream.advance(n_tokens)
        ready = [stream for stream, _ in chosen if not stream.pending]
        for stream, row in zip(ready, rows, strict=True):
            step = stream.on_logits(row)
            if not stream.pending:
                work.live.remove(stream)
            work.live.extend(follower for follower in step.followers if follower.pending)
            for path in step.finished:
                yield path
                work.live.extend(stream.text.next_path(work.enough))
            if not stream.text.n_open:
                work.texts.remove(stream.text)


def _gather(live: list[Stream], limit: int, n_outputs: int) -> tuple[list[tuple[Stream, int]], list[Token]]:
    """Waiting tokens of the streams in turn, at most ``limit``; logits after a stream's last one, ``n_outputs`` at most."""
    chosen: list[tuple[Stream, int]] = []
    tokens: list[Token] = []
    for stream in live:
        n = min(len(stream.pending), limit - len(tokens))
        if n == 0 or n_outputs == 0:
            break
        first = stream.position
        tokens += [Token(t, first + i, stream.sequence) for i, t in enumerate(stream.pending[:n])]
        if n == len(stream.pending):
            tokens[-1] = replace(tokens[-1], wants_logits=True)
            n_outputs -= 1
        chosen.append((stream, n))
    return chosen, tokens


CELL_BLOCK = 256  # llama.cpp rounds the cache up to this many cells
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of the pinned build
