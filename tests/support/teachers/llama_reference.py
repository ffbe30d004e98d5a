"""Prompts for real teachers, and another implementation to compare with: llama-cpp-python's class, which has one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from scipy.special import log_softmax

from potstill.labeler.teacher import AnswerSpec, PathRequest

PREFIX = {
    "direct": "Post: up 20% and buying more\nSentiment: positive\n\nPost: awful quarter, I sold\nSentiment: negative\n\n",
    "cot": "Post: up 20% and buying more\nOpinion: The author buys.\nSentiment: positive\n\n"
    "Post: awful quarter, I sold\nOpinion: The author has sold.\nSentiment: negative\n\n",
}
TEXTS = ["Loaded up on calls before the print.", "anyone know when they report?", "Sold it all. Dead money, worse management 😞"]
WORDS = ("positive", "negative", "neutral")


def answer_spec(mode: str, words: tuple[str, ...] = WORDS, max_rationale_tokens: int = 12) -> AnswerSpec:
    """How these prompts are answered."""
    return AnswerSpec(mode, words, "Opinion:", "Sentiment:", 0.5, max_rationale_tokens)  # type: ignore[arg-type]


def requests(mode: str, paths: int = 1, texts: list[str] = TEXTS, n_first: int = 0) -> list[PathRequest]:
    """A request for so many paths of each text."""
    cue = "Sentiment:" if mode == "direct" else "Opinion:"
    return [PathRequest(str(i), f"Post: {text}\n{cue}", tuple(range(paths)), n_first) for i, text in enumerate(texts)]


class SingleSequence:
    """One sequence, the whole prompt, one token after the other."""

    def __init__(self, model: Path, *, flash_attention: bool = False, n_ctx: int = 256) -> None:
        """Open the model."""
        self.llama = llama_cpp.Llama(
            str(model), n_ctx=n_ctx, logits_all=True, n_threads=2, flash_attn=flash_attention, verbose=False
        )

    def logprobs(self, text: str, words: Sequence[str]) -> list[float]:
        """Log-probabilities (nats) of the words after the text and a space."""
        before = self.llama.tokenize(text.encode(), special=False)
        wholes = [self.llama.tokenize(f"{text} {word}".encode(), special=False) for word in words]
        assert all(whole[: len(before)] == before for whole in wholes)
        return self.logprobs_after(before, [whole[len(before) :] for whole in wholes])

    def logprobs_after(self, tokens: Sequence[int], words: Sequence[Sequence[int]]) -> list[float]:
        """Log-probabilities (nats) of the words' tokens after these."""
        rows: dict[tuple[int, ...], np.ndarray] = {}  # of what comes next, by the beginning of a word
        for beginning in sorted((tuple(word[:-1]) for word in words), key=len, reverse=True):
            if beginning not in rows:  # words of one token are read where a longer one begins
                self.llama.reset()
                self.llama.eval([*tokens, *beginning])
                for n in range(len(beginning) + 1):
                    rows[beginning[:n]] = log_softmax(np.asarray(self.llama.scores[len(tokens) - 1 + n], dtype=np.float64))
        return [float(sum(rows[tuple(word[:n])][token] for n, token in enumerate(word))) for word in words]

    def close(self) -> None:
        """Give its memory back."""
        self.llama.close()
