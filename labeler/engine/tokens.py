"""The tokens of prompts that share a prefix, split where they begin to differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.engine.llama_engine import LlamaEngine
from potstill.labeler.teacher import AnswerSpec


class PromptTokens:
    """Tokens of the shared prefix, and of what follows it in each prompt.

    Many vocabularies merge the prefix's last line breaks with each other or with the next word. Cutting there would show the
    teacher other tokens than the whole prompt has, and move its probabilities; so the shared part ends at the last token that is
    the same whatever follows. Control tokens count in the prefix and in the tail of a chat, never in a text.
    """

    def __init__(self, engine: LlamaEngine, prefix: str, prompt: str, spec: AnswerSpec) -> None:
        """Args: prompt, any one that follows the prefix."""
        self._engine = engine
        alone = engine.tokenize(prefix, start=True, control=spec.chat)
        n_fixed = _after_last_control(engine, alone) if spec.chat else 0
        if n_fixed:
            whole = alone[:n_fixed] + engine.tokenize(_text(engine, alone[n_fixed:]) + prompt)
        else:
            whole = engine.tokenize(prefix + prompt, start=True)
        n = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), min(len(alone), len(whole)))
        self.shared = alone[:n]
        self._rest = _text(engine, alone[n:])  # of the prefix, after the shared tokens
        self._before = _text(engine, alone[n - 1 : n]) if n else ""
        self._tail = engine.tokenize(spec.tail, control=True) if spec.tail else []

    def of(self, prompt: str) -> list[int]:
        """Tokens of a prompt after the shared ones."""
        return self._engine.tokenize_after(self._before, self._rest + prompt) + self._tail


def _after_last_control(engine: LlamaEngine, tokens: list[int]) -> int:
    """How many tokens there are up to and with the last control token."""
    return next((i + 1 for i in reversed(range(len(tokens))) if engine.is_control(tokens[i])), 0)


def _text(engine: LlamaEngine, tokens: list[int]) -> str:
    """The text that the tokens stand for; control tokens stand for none."""
    return b"".join(map(engine.piece, tokens)).decode("utf-8", "ignore")


@dataclass(frozen=True)
class LabelWords:
    """The label words as token sequences. The logits after the answer cue price every word's first token; a word of several
    tokens is then walked, token by token, in a sequence of its own."""

    tokens: tuple[tuple[int, ...], ...]  # by word

    @classmethod
    def of(cls, engine: LlamaEngine, spec: AnswerSpec) -> LabelWords:
        """Tokenize the words as they follow the answer cue.

        Raises:
            UserError: if two words become the same tokens, or one begins another, so that their probabilities overlap.
        """
        tokens = tuple(tuple(engine.tokenize_after(spec.answer_cue, f" {word}")) for word in spec.words)
        for i, first in enumerate(tokens):
            for j, second in enumerate(tokens):
                if i != j and second[: len(first)] == first:
                    raise UserError(f"label words {spec.words[i]!r} and {spec.words[j]!r} begin alike for this teacher; change one")
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
