"""Tokens of prompts and label words: where prompts with a shared prefix begin to differ, and what a label word's tokens are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.teacher import AnswerSpec

LEAST_SHARE = 1e-6  # of a word's probability that is its own; logits of 32 bits say no less


class PromptTokens:
    """Tokens of the shared prefix, and of the rest of each prompt.

    Many vocabularies merge the prefix's last line breaks with each other or with the next word. Cutting there would give the
    teacher other tokens than the whole prompt has, and change its probabilities; so the shared part ends at the last token that is
    the same whatever follows. Control tokens are parsed in the prefix and the tail of a chat, never in a text.
    """

    def __init__(self, engine: LlamaEngine, prefix: str, prompt: str, spec: AnswerSpec) -> None:
        """Args: prompt, any of those that follow the prefix."""
        self._engine = engine
        alone = engine.tokenize(prefix, start=True, control=spec.chat)
        n_fixed = _after_last_control(engine, alone) if spec.chat else 0
        if n_fixed:
            whole = alone[:n_fixed] + engine.tokenize(_text(engine, alone[n_fixed:]) + prompt)
        else:
            whole = engine.tokenize(prefix + prompt, start=True)
        n = common_length(alone, whole)
        self.shared = alone[:n]
        self._rest = _text(engine, alone[n:])  # of the prefix, after the shared tokens
        self._before = _text(engine, alone[n - 1 : n]) if n else ""
        self._tail = engine.tokenize(spec.tail, control=True) if spec.tail else []

    def of(self, prompt: str) -> list[int]:
        """The tokens of a prompt after the shared ones."""
        return self._engine.tokenize_after(self._before, self._rest + prompt) + self._tail


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _after_last_control(engine: LlamaEngine, tokens: list[int]) -> int:
    """Number of tokens up to and including the last control token."""
    return next((i + 1 for i in reversed(range(len(tokens))) if engine.is_control(tokens[i])), 0)


def _text(engine: LlamaEngine, tokens: list[int]) -> str:
    """Decode tokens to text, skipping control tokens."""
    return b"".join(map(engine.piece, tokens)).decode("utf-8", "ignore")


@dataclass(frozen=True)
class LabelWords:
    """The label words as token sequences.

    The logits after the answer cue give the probability of every word's first token; the remaining tokens of a longer word are
    then read one by one, in a sequence of its own.

    One word's tokens may begin another's, as those of "billing" begin "billing dispute". What is read for the short word is then
    the probability of every answer that begins with it, the long word included; :meth:`apart` takes the long word's share out.
    """

    tokens: tuple[tuple[int, ...], ...]  # by word
    begun_by: tuple[int | None, ...]  # by word: the longest other word whose tokens begin this one's

    @classmethod
    def of(cls, engine: LlamaEngine, spec: AnswerSpec) -> LabelWords:
        """Tokenize the words as they follow the answer cue.

        Raises:
            UserError: if two words have the same tokens, or a word has none: their probabilities could not be told apart.
        """
        tokens = tuple(tuple(engine.tokenize_after(spec.answer_cue, f" {word}")) for word in spec.words)
        for i, own in enumerate(tokens):
            if not own:
                raise UserError(f"label word {spec.words[i]!r} has no token for this teacher; change it")
            if own in tokens[:i]:
                other = spec.words[tokens.index(own)]
                raise UserError(f"label words {other!r} and {spec.words[i]!r} are the same to this teacher; change one")
        return cls(tokens, tuple(map(partial(_longest_beginning, tokens), tokens)))

    def apart(self, logprobs: Sequence[float]) -> tuple[float, ...]:
        """Log-probability (nats) that the answer is a word and does not go on to a longer one.

        It is `P(short) - P(long)`: exact whatever follows the short word, be it a line break, an end token or a full stop.

        Args:
            logprobs: by word, of every answer that begins with its tokens.
        """
        gone_on = [0.0] * len(logprobs)  # share of a word's probability that belongs to longer words
        for longer, shorter in enumerate(self.begun_by):
            if shorter is not None:
                gone_on[shorter] += math.exp(min(0.0, logprobs[longer] - logprobs[shorter]))
        return tuple(
            value + math.log(max(LEAST_SHARE, 1.0 - gone)) if gone else value for value, gone in zip(logprobs, gone_on, strict=True)
        )

    @property
    def long_words(self) -> list[int]:
        """Indices of the words with more than one token."""
        return [i for i, word in enumerate(self.tokens) if len(word) > 1]

    def first_logprobs(self, logits: NDArray[np.float32]) -> list[float]:
        """Log-probability (nats) of each word's first token. Args: logits float32 [V]."""
        return logprobs(logits, [word[0] for word in self.tokens])


def _longest_beginning(words: Sequence[tuple[int, ...]], word: tuple[int, ...]) -> int | None:
    """Index of the longest other word whose tokens begin the word's; None if there is none."""
    found = [i for i, other in enumerate(words) if len(other) < len(word) and word[: len(other)] == other]
    return max(found, key=lambda i: len(words[i]), default=None)


def logprobs(logits: NDArray[np.float32], tokens: list[int]) -> list[float]:
    """Log-probabilities (nats) of the tokens under the softmax of the logits.

    Args:
        logits: float32 [V].
        tokens: ids below V.
    Raises:
        UserError: if the logits are not finite, as they are with damaged weights.
    """
    peak = float(logits.max())
    if not np.isfinite(peak):
        raise UserError(f"the teacher's logits are {peak}: its weights are damaged; check the file with: potstill models verify")
    log_total = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    return [float(logits[token]) - log_total for token in tokens]
