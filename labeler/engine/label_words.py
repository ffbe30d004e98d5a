"""Reading the exact probability of every label word from a row of logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.engine.llama_engine import LlamaEngine
from potstill.labeler.teacher import Reading


@dataclass(frozen=True)
class LabelWords:
    """The label words as token sequences. The logits after the answer cue price every word's first token; a word of several
    tokens is then walked, token by token, in a sequence of its own."""

    tokens: tuple[tuple[int, ...], ...]  # by word

    @classmethod
    def of(cls, engine: LlamaEngine, reading: Reading) -> LabelWords:
        """Tokenize the words as they follow the answer cue.

        Raises:
            UserError: if two words become the same tokens, or one begins another, so that their probabilities overlap.
        """
        tokens = tuple(tuple(engine.tokenize_after(reading.answer_cue, f" {word}")) for word in reading.words)
        for i, first in enumerate(tokens):
            for j, second in enumerate(tokens):
                if i != j and second[: len(first)] == first:
                    raise UserError(
                        f"label words {reading.words[i]!r} and {reading.words[j]!r} begin alike for this teacher; change one"
                    )
        return cls(tokens)

    @property
    def long_words(self) -> list[int]:
        """Indices of the words that take more than one token."""
        return [i for i, word in enumerate(self.tokens) if len(word) > 1]

    def first_logprobs(self, logits: NDArray[np.float32]) -> list[float]:
        """Log-probability (nats) of each word's first token. Args: logits float32 [V]."""
        return logprobs(logits, [word[0] for word in self.tokens])


def logprobs(logits: NDArray[np.float32], tokens: list[int]) -> list[float]:
    """Log-probabilities (nats) of the tokens under the softmax of the logits.

    Args:
        logits: float32 [V].
        tokens: ids below V.
    Raises:
        UserError: if they are no numbers: what a damaged weight makes of all logits.
    """
    peak = float(logits.max())
    if not np.isfinite(peak):
        raise UserError(f"the teacher's logits are {peak}: its weights are damaged; check the file with: potstill models verify")
    log_total = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    return [float(logits[token]) - log_total for token in tokens]
