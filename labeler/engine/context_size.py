"""How large a context is wanted: the prefix, a full batch of prompts, and the paths that live at once."""

from __future__ import annotations

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import Pace
from potstill.labeler.engine.llama_engine import EngineConfig
from potstill.labeler.engine.variant_context import Draw
from potstill.labeler.paths import Ask

CELL_BLOCK = 256  # llama.cpp rounds the cache up to this many cells
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of the pinned build


def context_for(found: Pace, draw: Draw, asks: list[tuple[Ask, list[int]]]) -> EngineConfig:
    """A context for the wanted number of live paths.

    It holds the longest text and average ones beside it, not that many of the longest: a cell of an 8B model takes 128 KB, and one
    long text among many must not cost gigabytes. The scheduler starts no text that does not fit.

    Args:
        asks: each with its prompt's tokens after the prefix; at least one.
    Raises:
        UserError: if one text's paths need more sequences than there can be.
    """
    lengths = [len(tokens) for _, tokens in asks]
    average = -(-sum(lengths) // len(lengths))
    most_at_once = max(ask.n_at_once for ask, _ in asks)
    most_paths = max(len(ask.paths) for ask, _ in asks)
    sequences_per_text = draw.n_sequences(most_paths)
    # Paths that share their tokens are one stream, so twice the texts keep the wanted number of streams alive. Held-back paths
    # count as living ones: more texts would lengthen the cache that every token attends over, and be slower.
    n_texts = -(-2 * found.n_live_paths // most_paths) if draw.samples else found.n_batch // 8
    n_texts = min(max(1, n_texts), len(asks), (MAX_SEQUENCES - 1) // sequences_per_text)
    if n_texts < 1:
        raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
    if draw.samples:
        longest_and_others = [max(lengths), *[average] * (n_texts - 1)]
        cells = sum(draw.n_cells(length, most_paths, most_at_once) for length in longest_and_others)
    else:  # prompts live for one batch only
        cells = found.n_batch + max(lengths) + average + n_texts * draw.n_cells(0, 1, 1)
    return EngineConfig(
        n_cells=_rounded(draw.prefix_length + cells),
        n_batch=max(found.n_batch, 1 + n_texts * sequences_per_text),
        n_sequences=1 + n_texts * sequences_per_text,
        n_threads=found.n_threads,
        flash_attention=found.flash_attention if draw.samples else True,
    )


def context_for_one(found: Pace, draw: Draw, asks: list[tuple[Ask, list[int]]]) -> EngineConfig:
    """A context of one sequence, for the longest text and one path at a time. Args: as for :func:`context_for`."""
    longest = max(len(tokens) for _, tokens in asks)
    return EngineConfig(
        n_cells=_rounded(draw.prefix_length + draw.n_cells(longest, 1, 1)),
        n_batch=found.n_batch,
        n_sequences=1,
        n_threads=found.n_threads,
        flash_attention=found.flash_attention if draw.samples else True,
    )


def _rounded(n_cells: int) -> int:
    """What llama.cpp makes of so many cells."""
    return -(-n_cells // CELL_BLOCK) * CELL_BLOCK
