"""Another implementation to compare with: llama-cpp-python's high-level class, which has one sequence."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
from scipy.special import log_softmax


class SingleSequence:
    """One sequence, the whole prompt, one token after the other."""

    def __init__(self, model: Path, *, flash_attention: bool = False) -> None:
        """Open the model."""
        self.llama = llama_cpp.Llama(str(model), n_ctx=256, logits_all=True, n_threads=2, flash_attn=flash_attention, verbose=False)

    def logprob(self, text: str, word: str) -> float:
        """Log-probability (nats) of the word after the text and a space."""
        before = self.llama.tokenize(text.encode(), special=False)
        whole = self.llama.tokenize(f"{text} {word}".encode(), special=False)
        assert whole[: len(before)] == before
        self.llama.reset()
        self.llama.eval(whole)
        rows = np.asarray(self.llama.scores[len(before) - 1 : len(whole) - 1], dtype=np.float64)
        return float(sum(row[token] for row, token in zip(log_softmax(rows, axis=1), whole[len(before) :], strict=True)))

    def close(self) -> None:
        """Give its memory back."""
        self.llama.close()
