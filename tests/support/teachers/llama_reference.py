"""Prompts for real teachers, and another implementation to compare with: llama-cpp-python's class, which has one sequence."""

from __future__ import annotations

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

    def logprob(self, text: str, word: str) -> float:
        """Log-probability (nats) of the word after the text and a space."""
        before = self.llama.tokenize(text.encode(), special=False)
        whole = self.llama.tokenize(f"{text} {word}".encode(), special=False)
        assert whole[: len(before)] == before
        self.llama.reset()
        self.llama.eval(whole)
        rows = np.asarray(self.llama.scores[len(before) - 1 : len(whole) - 1], dtype=np.float64)
        return float(sum(row[token] for row, token in zip(log_softmax(rows, axis=1), whole[len(before) :], strict=True)))

    def logprob_after(self, tokens: list[int], word: list[int]) -> float:
        """Log-probability (nats) of the word's tokens after these."""
        self.llama.reset()
        self.llama.eval([*tokens, *word])
        rows = np.asarray(self.llama.scores[len(tokens) - 1 : len(tokens) + len(word) - 1], dtype=np.float64)
        return float(sum(row[token] for row, token in zip(log_softmax(rows, axis=1), word, strict=True)))

    def close(self) -> None:
        """Give its memory back."""
        self.llama.close()
