"""Tokens of prompts, of what is forced before a label, and of label words: together exactly those of the whole text.

A vocabulary may merge the end of one part with the beginning of the next: line breaks with each other, a full stop with the line
break after it. Tokens on the wrong side of such a seam are others than the model was trained on, and change its probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.engine.vocabulary import Parted, Vocabulary
from potstill.labeler.teacher import NOT_ASKED, AnswerSpec

LEAST_SHARE = 1e-6  # of a word's probability that is its own; logits of 32 bits say no less
_BREAK = "\n"  # ends a rationale that is no thought
_WINDOW = 256  # letters before a prompt that are tokenized with it, from a line's beginning: what is further away is not touched
_N_ALIKE = 8  # tokens of that window that must be as they are without the prompt


class _WindowError(Exception):
    """A text changes tokens that are further away than the window."""


class PromptTokens:
    """Tokens of the shared prefix, and of the rest of each prompt.

    Each prompt is tokenized together with the prefix, and the shared tokens are those with which all of them begin. Control tokens
    are parsed in the prefix and the tail of a chat, never in a text.
    """

    def __init__(self, vocabulary: Vocabulary, prefix: str, prompts: Sequence[str], spec: AnswerSpec, n_back: int = 0) -> None:
        """Args: prompts, at least one, all that will follow the prefix; n_back, see :class:`LabelWords`."""
        self._vocabulary, self._spec, self._n_back = vocabulary, spec, n_back
        begun = _parted(vocabulary, prefix, spec)
        fixed = vocabulary.tokenize(prefix[: len(prefix) - len(begun.after)], control=True) if begun.tokens else []
        opening = vocabulary.opening
        fixed = fixed if opening and fixed[:1] == opening else opening + fixed  # some templates write the opening token
        self._begun = begun if begun.tokens else Parted("", [], prefix)
        self._ended = _parted(vocabulary, spec.tail, spec)
        raw = vocabulary.tokenize(self._begun.follow(""))
        self._window, self._again, far = self._near_end(raw)
        try:
            rests = [self._rest(prompt, self._ended) for prompt in prompts]
        except _WindowError:
            self._window, self._again, far = "", [], []
            rests = [self._rest(prompt, self._ended) for prompt in prompts]
        n = common_length(raw[len(far) :], rests[0])
        for rest in rests:
            n = min(n, common_length(rests[0], rest))
        self._n_near = n  # of the shared tokens, those that are tokenized with every prompt
        self.shared = fixed + far + rests[0][:n]
        self.rests = [_without(rest[n:], 0 if spec.mode == "cot" else n_back) for rest in rests]  # in the order of the prompts

    def without_rationale(self, prompt: str) -> list[int]:
        """The tokens after the shared ones where the rationale is empty, up to the label word. Args: prompt, one of the prompts."""
        closed = _parted(self._vocabulary, self._spec.tail + _ending(self._spec), self._spec)
        return _without(self._rest(prompt, closed)[self._n_near :], self._n_back)

    def _rest(self, prompt: str, ended: Parted) -> list[int]:
        """The tokens of a prompt and of what ends it, after those that are far from it."""
        text = ended.precede(prompt)
        tokens = self._vocabulary.tokenize(self._window + text if self._window else self._begun.follow(text))
        if tokens[: len(self._again)] != self._again:
            raise _WindowError
        return tokens[len(self._again) :] + ended.tokens + self._vocabulary.tokenize(ended.follow(""))

    def _near_end(self, raw: list[int]) -> tuple[str, list[int], list[int]]:
        """(what to tokenize with every prompt, its first tokens, all tokens up to there). Args: raw, after the last control token.

        The window is empty, and means all of the text, where a shorter one is no use.
        """
        text = self._begun.follow("")
        window = text[text.rfind("\n", 0, max(0, len(text) - _WINDOW)) + 1 :]
        near = self._vocabulary.tokenize(window)
        n = len(near) - common_length(raw[::-1], near[::-1]) + _N_ALIKE  # a window's first tokens may be others than in the text
        if len(window) == len(text) or n + _N_ALIKE > len(near):
            return "", [], []
        return window, near[:n], raw[: len(raw) - len(near) + n]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


class RationaleEnd:
    """Where a rationale ends, and the tokens that lead from there to the label word.

    A rationale ends where the model writes its mark: a line break, or what ends a thought. The mark, what closes a thought and the
    answer cue are then forced, tokenized together with the text of the last drawn token, which is not in the cache yet.
    """

    def __init__(self, vocabulary: Vocabulary, spec: AnswerSpec, n_back: int) -> None:
        """Args: n_back, see :class:`LabelWords`."""
        self._vocabulary, self._spec, self._n_back = vocabulary, spec, n_back
        mark = spec.thought.stop if spec.thought else _BREAK
        self._mark = mark.encode()
        spelled = vocabulary.tokenize(mark, control=True) if spec.thought else []
        self._mark_token = spelled[0] if len(spelled) == 1 else None
        self._whole = _ending(spec)
        at = self._whole.find(mark)
        self._from_mark = self._whole[max(at, 0) :]
        self._past_mark = self._whole[at + len(mark) :] if at >= 0 else self._whole
        # A piece that is cut before the mark may take two tokens more than it was.
        self.n_most = max(len(self._forced("", ending)) for ending in (self._whole, self._from_mark, self._past_mark)) + 2

    def after(self, written: bytes, token: int, piece: bytes, *, is_last: bool) -> list[int] | None:
        """The tokens to decode in place of a drawn one if the rationale ends with it; None if it goes on.

        Args:
            written: the text of the tokens before.
            piece: the token's text.
            is_last: whether no further token may be drawn.
        """
        if token == self._mark_token:
            return self._forced("", self._from_mark)
        if self._vocabulary.ends(token):
            return self._forced("", self._whole)
        begun = written[-(len(self._mark) - 1) :] if len(self._mark) > 1 else b""  # may hold the beginning of the mark
        at = (begun + piece).find(self._mark) if self._mark else -1
        if at >= 0:
            n = at - len(begun)
            head, ending = (piece[:n], self._from_mark) if n >= 0 else (piece[: n + len(self._mark)], self._past_mark)
            return self._forced(head.decode("utf-8", "replace"), ending)
        if not is_last:
            return None
        try:
            return self._forced(piece.decode(), self._whole)
        except UnicodeDecodeError:  # a part of a character: the others are in the cache
            return [token, *self._forced("", self._whole)]

    def rationale(self, written: bytes) -> str:
        """The text before the mark, without the spaces around it."""
        return self._before_mark(written).decode("utf-8", "replace").strip()

    def is_empty(self, written: bytes) -> bool:
        """Whether nothing, not even a space, is before the mark."""
        return not self._before_mark(written)

    def _before_mark(self, written: bytes) -> bytes:
        """The text before the mark; all of it where there is none."""
        return written.partition(self._mark)[0] if self._mark else written

    def _forced(self, head: str, ending: str) -> list[int]:
        """The tokens of the last token's text and the ending."""
        ended = _parted(self._vocabulary, ending, self._spec)
        tokens = self._vocabulary.tokenize_on(ended.precede(head)) + ended.tokens + self._vocabulary.tokenize(ended.follow(""))
        return _without(tokens, self._n_back)


@dataclass(frozen=True)
class LabelWords:
    """The label words as token sequences.

    The logits after the answer cue give the probability of every word's first token; the remaining tokens of a longer word are
    then read one by one, in a sequence of its own.

    One word's tokens may begin another's, as those of "billing" begin "billing dispute". What is read for the short word is then
    the probability of every answer that begins with it, the long word included; :meth:`apart` takes the long word's share out.

    Where a text has candidates, :meth:`among` gives the words of those alone. Words that begin alike are then read as a tree: what
    they have in common is decoded once.
    """

    tokens: tuple[tuple[int, ...], ...]  # by word
    begun_by: tuple[int | None, ...]  # by word: the longest other word whose tokens begin this one's
    n_back: int = 0  # tokens at the end of the answer cue that merge with a word: they belong to the words, not to the prompt
    places: tuple[int, ...] = ()  # of candidates: their indices among all words
    n_all: int = 0  # of candidates: number of all words

    @classmethod
    def of(cls, vocabulary: Vocabulary, spec: AnswerSpec) -> LabelWords:
        """Tokenize the words as they follow the answer cue.

        Raises:
            UserError: if two words have the same tokens, or a word has none: their probabilities could not be told apart.
        """
        ending = _ending(spec) if spec.mode == "cot" else spec.tail or f"{_BREAK}{spec.answer_cue}"
        ended = _parted(vocabulary, ending, spec)
        before = ended if ended.tokens else Parted("", [], f"x{ending}")
        cue, *wholes = [vocabulary.tokenize(before.follow(more)) for more in ("", *(f" {word}" for word in spec.words))]
        n = min(common_length(cue, whole) for whole in wholes)
        tokens = tuple(tuple(whole[n:]) for whole in wholes)
        for i, own in enumerate(tokens):
            if not own:
                raise UserError(f"label word {spec.words[i]!r} has no token for this teacher; change it")
            if own in tokens[:i]:
                other = spec.words[tokens.index(own)]
                raise UserError(f"label words {other!r} and {spec.words[i]!r} are the same to this teacher; change one")
        return cls(tokens, tuple(map(partial(_longest_beginning, tokens), tokens)), len(cue) - n)

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
        own = tuple(
            value + math.log(max(LEAST_SHARE, 1.0 - gone)) if gone else value for value, gone in zip(logprobs, gone_on, strict=True)
        )
        if not self.places:
            return own
        found = dict(zip(self.places, own, strict=True))
        return tuple(found.get(place, NOT_ASKED) for place in range(self.n_all))

    def among(self, places: Sequence[int]) -> LabelWords:
        """The words at these places alone, to be read as a tree; all words if there is no place."""
        if not places:
            return self
        tokens = tuple(self.tokens[place] for place in places)
        begun_by = tuple(map(partial(_longest_beginning, tokens), tokens))
        return LabelWords(tokens, begun_by, self.n_back, tuple(places), len(self.tokens))

    @property
    def walks(self) -> list[list[int]]:
        """The words of several tokens, in groups that are read together: of candidates those with the same first token."""
        if not self.places:
            return [[i] for i in self.long_words]
        return self.parted(self.long_words, 0)

    def parted(self, words: Sequence[int], n_read: int) -> list[list[int]]:
        """Those of the words that have more tokens, in groups by the next one. Args: n_read, tokens that all have in common."""
        groups: dict[int, list[int]] = {}
        for word in words:
            if len(self.tokens[word]) > n_read:
                groups.setdefault(self.tokens[word][n_read], []).append(word)
        return [*groups.values()]

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


def _ending(spec: AnswerSpec) -> str:
    """What stands between a rationale and the label word."""
    return f"{spec.thought.closing if spec.thought else _BREAK}{spec.answer_cue}"


def _parted(vocabulary: Vocabulary, text: str, spec: AnswerSpec) -> Parted:
    """The text around its control tokens, which only a chat has."""
    return vocabulary.part(text) if spec.chat else Parted(text, [], "")


def _without(tokens: list[int], n_back: int) -> list[int]:
    """The tokens without the last ``n_back``."""
    return tokens[: len(tokens) - n_back]
