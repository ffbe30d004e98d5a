"""Streams: sequences of the KV cache that wait for tokens to be decoded, and what the logits after them lead to.

PromptStream ── direct ──────────────────────────────> label read
             └─ cot: one RationaleStream a path ──────> label read
label read: done at once, or one WordStream for each label word of several tokens
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from labeler.label_words import LabelWords, logprobs
from labeler.llama_engine import LlamaEngine, Sampler
from labeler.paths import Ask, TeacherPath, path_seed
from labeler.teacher import Reading

Finished = list[tuple[TeacherPath, list[int]]]  # complete paths, each with the sequences that it gives back


class Draw:
    """What all streams of one prompt variant share."""

    def __init__(
        self, engine: LlamaEngine, words: LabelWords, reading: Reading, variant: int, run_seed: int, prefix_length: int
    ) -> None:
        """Take the shared parts and tokenize the answer cue."""
        self.engine, self.words, self.reading = engine, words, reading
        self.variant, self.run_seed, self.prefix_length = variant, run_seed, prefix_length
        self.cue = engine.tokenize_after("x", f"\n{reading.answer_cue}")
        self._pieces: dict[int, bytes] = {}

    @property
    def samples(self) -> bool:
        """Whether paths are sampled rationales."""
        return self.reading.mode == "cot"

    @property
    def n_after_prompt(self) -> int:
        """Most tokens that one path adds after its prompt."""
        rationale = self.reading.max_rationale_tokens + len(self.cue) + 2 if self.samples else 0
        return rationale + max(len(word) for word in self.words.tokens)

    def n_sequences(self, n_paths: int) -> int:
        """Sequences that one text needs: its own, its paths', and those that walk words of several tokens."""
        n_long = len(self.words.long_words)
        return 1 + n_paths * (1 + n_long) if self.samples else 1 + n_long

    def n_cells(self, n_prompt_tokens: int, n_paths: int) -> int:
        """Cells that one text takes at most."""
        n_words = sum(len(self.words.tokens[i]) for i in self.words.long_words)
        after = n_paths * (self.reading.max_rationale_tokens + len(self.cue) + 2) if self.samples else 0
        return n_prompt_tokens + after + max(1, n_paths) * n_words

    def piece(self, token: int) -> bytes:
        """The token's bytes, remembered."""
        if token not in self._pieces:
            self._pieces[token] = self.engine.piece(token)
        return self._pieces[token]


class Stream(ABC):
    """One sequence and the tokens that wait to be decoded into it."""

    sequence: int
    position: int
    pending: list[int]
    n_cells: int  # reserved in the cache

    def advance(self, n_tokens: int) -> None:
        """The first ``n_tokens`` waiting ones are decoded."""
        self.position += n_tokens
        self.pending = self.pending[n_tokens:]

    @abstractmethod
    def on_logits(self, row: int) -> tuple[list[Stream], Finished]:
        """Use the logits after the last waiting token; either set ``pending`` again or be over."""

    def close(self) -> None:  # noqa: B027  # most streams hold nothing outside the cache
        """Give back what is not in the cache."""


@dataclass
class _Reader:
    """One path whose label words are being read."""

    draw: Draw
    path: TeacherPath
    sequences: list[int]  # all that this path gives back; the first holds its text and rationale
    logprobs: list[float] = field(default_factory=list)
    n_open: int = 0

    def read(self, row: int, position: int, n_cells: int) -> tuple[list[Stream], Finished]:
        """Take every word's first token from the row; walk the longer words."""
        engine, words = self.draw.engine, self.draw.words
        self.logprobs = words.first_logprobs(engine.logits(row))
        walkers: list[Stream] = []
        for index, sequence in zip(words.long_words, self.sequences[1:], strict=False):
            engine.fork(self.sequences[0], sequence)
            walkers.append(WordStream(self, index, sequence, position, n_cells if not walkers else 0))
        self.n_open = len(walkers)
        return walkers, self.finished()

    def finished(self) -> Finished:
        """The path, once no word is open."""
        if self.n_open:
            return []
        for sequence in self.sequences:
            self.draw.engine.free(sequence)
        values = {**self.path.__dict__, "word_logprobs": tuple(self.logprobs)}
        return [(TeacherPath(**values), self.sequences)]


class PromptStream(Stream):
    """A text's prompt on its way into the cache."""

    def __init__(self, draw: Draw, ask: Ask, tokens: list[int], sequences: list[int]) -> None:
        """Args: sequences as many as :meth:`Draw.n_sequences` says; the first already holds the prefix."""
        self.draw, self.ask, self.sequences = draw, ask, sequences
        self.sequence, self.position, self.pending = sequences[0], draw.prefix_length, tokens
        self.n_prompt_tokens, self.n_cells = len(tokens), draw.n_cells(len(tokens), len(ask.paths))

    def on_logits(self, row: int) -> tuple[list[Stream], Finished]:
        """Read the labels at once (`direct`), or let every path draw its first token (`cot`)."""
        if not self.draw.samples:
            (number,) = self.ask.paths  # equal prompts have equal answers when nothing is sampled, so one path is all there is
            return _Reader(self.draw, self._path(number), self.sequences).read(row, self.position, self.n_cells)
        followers: list[Stream] = []
        n_words = len(self.draw.words.long_words)
        own = [self.sequences[1 + i * (1 + n_words) : 1 + (i + 1) * (1 + n_words)] for i in range(len(self.ask.paths))]
        own[0].append(self.sequence)  # given back with the first path
        share = -(-self.n_cells // len(own))
        for number, sequences in zip(self.ask.paths, own, strict=True):
            self.draw.engine.fork(self.sequence, sequences[0])
            followers.append(RationaleStream(self.draw, self._path(number), sequences, self.position, share))
        for stream in followers:
            stream.on_logits(row)
        self.draw.engine.free(self.sequence)  # its cells live on in the paths
        return followers, []

    def _path(self, number: int) -> TeacherPath:
        """The path so far."""
        seed = path_seed(self.draw.run_seed, self.ask.text_id, number)
        return TeacherPath(self.ask.text_id, number, self.draw.variant, seed, "", (), self.n_prompt_tokens, 0)


class RationaleStream(Stream):
    """A rationale being sampled; then the answer cue, forced; then the label is read."""

    def __init__(self, draw: Draw, path: TeacherPath, sequences: list[int], position: int, n_cells: int) -> None:
        """Args: sequences of this path; the first already holds the prompt."""
        self.draw, self.path, self.sequences = draw, path, sequences
        self.sequence, self.position, self.pending, self.n_cells = sequences[0], position, [], n_cells
        self._sampler = Sampler(draw.reading.temperature, path.seed)
        self._pieces: list[bytes] = []
        self._asked = False  # whether the answer cue was given

    def on_logits(self, row: int) -> tuple[list[Stream], Finished]:
        """Draw the next token, or read the label."""
        if self._asked:
            self.close()
            rationale = b"".join(self._pieces).decode("utf-8", "replace").strip()
            values = {**self.path.__dict__, "rationale": rationale, "n_generated": len(self._pieces)}
            return _Reader(self.draw, TeacherPath(**values), self.sequences).read(row, self.position, self.n_cells)
        engine = self.draw.engine
        token = engine.sample(self._sampler, row)
        piece = b"" if engine.ends(token) else self.draw.piece(token)
        head, line_break, _ = piece.partition(b"\n")
        self._pieces.append(head)
        self.pending = [token]
        if line_break or engine.ends(token) or len(self._pieces) >= self.draw.reading.max_rationale_tokens:
            # a token that holds a line break never enters the cache: its text before the break does, then the cue
            kept = [token] if not line_break and head else engine.tokenize(head.decode("utf-8", "replace")) if head else []
            self.pending = kept + self.draw.cue
            self._asked = True
        return [], []

    def close(self) -> None:
        """Free the sampler."""
        self._sampler.close()


class WordStream(Stream):
    """A label word of several tokens, walked one by one."""

    def __init__(self, reader: _Reader, index: int, sequence: int, position: int, n_cells: int) -> None:
        """Args: index of the word; sequence that already holds everything before the word."""
        self.reader, self.index, self.sequence, self.position, self.n_cells = reader, index, sequence, position, n_cells
        self._tokens = list(reader.draw.words.tokens[index])
        self.pending = [self._tokens.pop(0)]

    def on_logits(self, row: int) -> tuple[list[Stream], Finished]:
        """Add the next token's log-probability; after the last one the word is closed."""
        token = self._tokens.pop(0)
        self.reader.logprobs[self.index] += logprobs(self.reader.draw.engine.logits(row), [token])[0]
        if self._tokens:
            self.pending = [token]
            return [], []
        self.reader.n_open -= 1
        return [], self.reader.finished()
