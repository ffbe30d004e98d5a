"""The parts that all paths of one prompt variant share, and the size of the context that they need."""

from __future__ import annotations

from collections.abc import Callable

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine
from potstill.labeler.engine.sequences import Sequences
from potstill.labeler.engine.tokens import LabelWords, RationaleEnd
from potstill.labeler.teacher import AnswerSpec, PathRequest

CELL_BLOCK = 256  # llama.cpp rounds the cache up to a multiple of this many cells
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of the pinned build


class VariantContext:
    """What all paths of one prompt variant share: engine, label words, answer spec, and the length of the prefix."""

    def __init__(
        self,
        engine: LlamaEngine,
        words: LabelWords,
        spec: AnswerSpec,
        variant: int,
        run_seed: int,
        prefix_length: int,
        without_rationale: Callable[[str], list[int]] | None = None,
        question: str = "",
        n_asked: int = 0,
    ) -> None:
        """Set up what the paths share.

        Args:
            prefix_length: in tokens.
            without_rationale: see :class:`potstill.labeler.engine.tokens.PromptTokens`.
            question: the key of the one that is asked, where several are asked together.
            n_asked: most words that one text is asked about; 0: all.
        """
        self.engine, self.words, self.spec = engine, words, spec
        self.sequences: Sequences = engine
        self.variant, self.run_seed, self.prefix_length = variant, run_seed, prefix_length
        self.end = RationaleEnd(engine, spec, words.n_back)
        self.without_rationale, self.question = without_rationale, question
        lengths = sorted((len(words.tokens[i]) for i in words.long_words), reverse=True)
        self._long_words = lengths[: n_asked or None]  # tokens of the longest words that one text may be asked about
        self._pieces: dict[int, bytes] = {}

    @property
    def samples(self) -> bool:
        """Whether paths begin with a sampled rationale."""
        return self.spec.mode == "cot"

    @property
    def n_after_prompt(self) -> int:
        """Largest number of tokens that one path adds after its prompt."""
        return self._n_rationale + max(len(word) for word in self.words.tokens)

    @property
    def n_sequences_per_path(self) -> int:
        """Sequences that one path may need: its own, and one for each label word of several tokens."""
        return 1 + len(self._long_words)

    def n_sequences(self, n_paths: int) -> int:
        """Sequences that one text may need; one of its paths continues in the sequence of the prompt."""
        return n_paths * self.n_sequences_per_path if self.samples else self.n_sequences_per_path

    def n_cells(self, n_prompt_tokens: int, n_paths: int, n_at_once: int) -> int:
        """Estimate the cells that one text takes while ``n_at_once`` of its paths are being drawn.

        Paths that are held back stop where they branched off: all of them together are given the cells of one path. If that is
        too little, the scheduler evicts the youngest text.
        """
        n_words = sum(self._long_words)
        n_branches = min(n_paths, n_at_once + 1) if self.samples and not self.sequences.one_at_a_time else 1
        return n_prompt_tokens + n_branches * (self._n_rationale + n_words)

    def piece(self, token: int) -> bytes:
        """The token's bytes, cached."""
        if token not in self._pieces:
            self._pieces[token] = self.engine.piece(token)
        return self._pieces[token]

    @property
    def _n_rationale(self) -> int:
        """Largest number of tokens of a rationale and of what is forced after it."""
        return self.spec.max_rationale_tokens + self.end.n_most if self.samples else 0


def engine_config(settings: EngineSettings, context: VariantContext, requests: list[tuple[PathRequest, list[int]]]) -> EngineConfig:
    """The size of a context for the wanted number of live paths.

    It has room for the longest text beside average ones, not for that many of the longest: a cell of an 8B model takes 128 KB, and
    one long text among many must not cost gigabytes. The scheduler starts no text that does not fit.

    Args:
        settings: with the wanted number of live paths.
        requests: at least one, each with its prompt's tokens after the prefix.
    Raises:
        UserError: if one text's paths need more sequences than llama.cpp allows.
    """
    lengths = [len(tokens) for _, tokens in requests]
    average = -(-sum(lengths) // len(lengths))
    most_at_once = max(request.n_at_once for request, _ in requests)
    most_paths = max(len(request.paths) for request, _ in requests)
    sequences_per_text = context.n_sequences(most_paths)
    # Paths with the same tokens are one stream, so it takes twice the texts to keep the wanted number of streams alive. Held-back
    # paths count as live ones: more texts would lengthen the cache that every token attends over, and be slower.
    n_texts = -(-2 * settings.n_live_paths // most_paths) if context.samples else settings.n_batch // 8
    n_texts = min(max(1, n_texts), len(requests), (MAX_SEQUENCES - 1) // sequences_per_text)
    if n_texts < 1:
        raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
    if context.samples:
        longest_and_others = [max(lengths), *[average] * (n_texts - 1)]
        cells = sum(context.n_cells(length, most_paths, most_at_once) for length in longest_and_others)
    else:  # prompts live for one batch only
        cells = settings.n_batch + max(lengths) + average + n_texts * context.n_cells(0, 1, 1)
    return EngineConfig(
        n_cells=rounded(context.prefix_length + cells),
        n_batch=max(settings.n_batch, 1 + n_texts * sequences_per_text),
        n_sequences=1 + n_texts * sequences_per_text,
        n_threads=settings.n_threads,
        flash_attention=settings.flash_attention if context.samples else True,
    )


def single_sequence_config(
    settings: EngineSettings, context: VariantContext, requests: list[tuple[PathRequest, list[int]]]
) -> EngineConfig:
    """The size of a context of one sequence, for the longest text and one path at a time. Args: as for :func:`engine_config`."""
    longest = max(len(tokens) for _, tokens in requests)
    return EngineConfig(
        n_cells=rounded(context.prefix_length + context.n_cells(longest, 1, 1)),
        n_batch=settings.n_batch,
        n_sequences=1,
        n_threads=settings.n_threads,
        flash_attention=settings.flash_attention if context.samples else True,
    )


def rounded(n_cells: int) -> int:
    """The cell count, rounded up to llama.cpp's block size."""
    return -(-n_cells // CELL_BLOCK) * CELL_BLOCK
