"""What all paths of one prompt variant share, and how many sequences and cells they need."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama_engine import EngineConfig, LlamaEngine, Token
from potstill.labeler.engine.tokens import LabelWords
from potstill.labeler.teacher import AnswerSpec, PathRequest

PREFIX = 0  # sequence of the shared prefix


class Sequences(Protocol):
    """Where tokens are decoded into sequences: the engine itself, or :class:`potstill.labeler.engine.sequences.TimeSharedSequences`."""

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


class VariantContext:
    """One prompt variant being asked."""

    def __init__(
        self, engine: LlamaEngine, words: LabelWords, spec: AnswerSpec, variant: int, run_seed: int, prefix_length: int
    ) -> None:
        """Take the shared parts and tokenize the answer cue."""
        self.engine, self.words, self.spec = engine, words, spec
        self.sequences: Sequences = engine
        self.variant, self.run_seed, self.prefix_length = variant, run_seed, prefix_length
        self.cue = engine.tokenize_after("x", f"\n{spec.answer_cue}")
        self._pieces: dict[int, bytes] = {}

    @property
    def samples(self) -> bool:
        """Whether paths are sampled rationales."""
        return self.spec.mode == "cot"

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
        return self.spec.max_rationale_tokens + len(self.cue) + 2 if self.samples else 0


CELL_BLOCK = 256  # llama.cpp rounds the cache up to this many cells
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of the pinned build


def context_for(found: EngineSettings, context: VariantContext, requests: list[tuple[PathRequest, list[int]]]) -> EngineConfig:
    """A context for the wanted number of live paths.

    It holds the longest text and average ones beside it, not that many of the longest: a cell of an 8B model takes 128 KB, and one
    long text among many must not cost gigabytes. The scheduler starts no text that does not fit.

    Args:
        asks: each with its prompt's tokens after the prefix; at least one.
    Raises:
        UserError: if one text's paths need more sequences than there can be.
    """
    lengths = [len(tokens) for _, tokens in requests]
    average = -(-sum(lengths) // len(lengths))
    most_at_once = max(request.n_at_once for request, _ in requests)
    most_paths = max(len(request.paths) for request, _ in requests)
    sequences_per_text = context.n_sequences(most_paths)
    # Paths that share their tokens are one stream, so twice the texts keep the wanted number of streams alive. Held-back paths
    # count as living ones: more texts would lengthen the cache that every token attends over, and be slower.
    n_texts = -(-2 * found.n_live_paths // most_paths) if context.samples else found.n_batch // 8
    n_texts = min(max(1, n_texts), len(requests), (MAX_SEQUENCES - 1) // sequences_per_text)
    if n_texts < 1:
        raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
    if context.samples:
        longest_and_others = [max(lengths), *[average] * (n_texts - 1)]
        cells = sum(context.n_cells(length, most_paths, most_at_once) for length in longest_and_others)
    else:  # prompts live for one batch only
        cells = found.n_batch + max(lengths) + average + n_texts * context.n_cells(0, 1, 1)
    return EngineConfig(
        n_cells=_rounded(context.prefix_length + cells),
        n_batch=max(found.n_batch, 1 + n_texts * sequences_per_text),
        n_sequences=1 + n_texts * sequences_per_text,
        n_threads=found.n_threads,
        flash_attention=found.flash_attention if context.samples else True,
    )


def context_for_one(found: EngineSettings, context: VariantContext, requests: list[tuple[PathRequest, list[int]]]) -> EngineConfig:
    """A context of one sequence, for the longest text and one path at a time. Args: as for :func:`context_for`."""
    longest = max(len(tokens) for _, tokens in requests)
    return EngineConfig(
        n_cells=_rounded(context.prefix_length + context.n_cells(longest, 1, 1)),
        n_batch=found.n_batch,
        n_sequences=1,
        n_threads=found.n_threads,
        flash_attention=found.flash_attention if context.samples else True,
    )


def _rounded(n_cells: int) -> int:
    """What llama.cpp makes of so many cells."""
    return -(-n_cells // CELL_BLOCK) * CELL_BLOCK
