"""What all paths of one prompt variant share, and how many sequences and cells they need."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

from potstill.labeler.engine.label_words import LabelWords
from potstill.labeler.engine.llama_engine import LlamaEngine, Token
from potstill.labeler.teacher import Reading

PREFIX = 0  # sequence of the shared prefix


class Sequences(Protocol):
    """Where tokens are decoded into sequences: the engine itself, or :class:`potstill.labeler.engine.sequences.OneByOne`."""

    one_at_a_time: bool  # whether a decode takes one sequence only, and no other takes cells meanwhile

    @property
    def n_sequences(self) -> int:
        """How many there may be, the prefix's own among them."""
        ...

    def decode(self, tokens: Many[Token]) -> list[int]:
        """See :meth:`potstill.labeler.engine.llama_engine.LlamaEngine.decode`."""
        ...

    def fork(self, source: int, target: int) -> None:
        """Let a new sequence continue from all of another."""
        ...

    def free(self, sequence: int) -> None:
        """Forget a sequence."""
        ...


class Draw:
    """One prompt variant being asked."""

    def __init__(
        self, engine: LlamaEngine, words: LabelWords, reading: Reading, variant: int, run_seed: int, prefix_length: int
    ) -> None:
        """Take the shared parts and tokenize the answer cue."""
        self.engine, self.words, self.reading = engine, words, reading
        self.sequences: Sequences = engine
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
        return self._n_rationale + max(len(word) for word in self.words.tokens)

    @property
    def n_sequences_per_path(self) -> int:
        """Sequences that one path may need: its own, and those that walk words of several tokens."""
        return 1 + len(self.words.long_words)

    def n_sequences(self, n_paths: int) -> int:
        """Sequences that one text may need: one of its paths goes on in the sequence of its prompt."""
        return n_paths * self.n_sequences_per_path if self.samples else self.n_sequences_per_path

    def n_cells(self, n_prompt_tokens: int, n_paths: int, n_at_once: int) -> int:
        """Cells that one text takes at most while ``n_at_once`` of its paths are being drawn.

        Paths that are held back lie where they parted from drawn ones: together they get the cells of one path. Where that is too
        little the youngest text gives way.
        """
        n_words = sum(len(self.words.tokens[i]) for i in self.words.long_words)
        n_branches = min(n_paths, n_at_once + 1) if self.samples and not self.sequences.one_at_a_time else 1
        return n_prompt_tokens + n_branches * (self._n_rationale + n_words)

    def piece(self, token: int) -> bytes:
        """The token's bytes, remembered."""
        if token not in self._pieces:
            self._pieces[token] = self.engine.piece(token)
        return self._pieces[token]

    @property
    def _n_rationale(self) -> int:
        """Most tokens of a rationale and the answer cue; a piece cut at its line break may take two more."""
        return self.reading.max_rationale_tokens + len(self.cue) + 2 if self.samples else 0
