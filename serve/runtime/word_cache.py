"""Token ids of words, remembered: most words of a text have been read before.

BERT's tokenizers change characters one by one, split at spaces and around every mark, and look each word up by itself. So the
ids of a text are those of its words in a row, whatever stands beside them, and a dictionary finds a word in a tenth of the time
that the tokenizer takes. What is not made of ASCII's letters, digits and marks is remembered in whole, from space to space.
Special tokens that are written out in a text are matched first: a text that could hold one is left to the tokenizer, and so is
every other kind of tokenizer.
"""

from __future__ import annotations

import re

from tokenizers import Tokenizer

MAX_CHARS = 128  # of a word; a text with a longer one is left to the tokenizer
LIKELY_CHARS = 5  # of a token: a text's beginning of so many for each is tried first
MAX_KNOWN = 16_384  # words of one generation, three megabytes; when it is full, those of the one before it are forgotten
_ODD = re.compile(r"[^\t\n\r -~]")  # what is not ASCII, and what is but is dropped; both may be inside a word
_PLAIN = re.compile(r"[a-zA-Z0-9]+|[^ \t\n\r]")
_CHUNKS = re.compile(r"[^ \t\n\r]+")  # other spaces are the tokenizer's business, as it drops some and keeps others


class Words:
    """A tokenizer's memory. Threads may share it: what two of them enter at once is equal."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, special: list[str], *, lowercase: bool) -> None:
        """Set up an empty memory.

        Args:
            tokenizer: of BERT's kind, with truncation to max_tokens.
            max_tokens: of a text, with those that the tokenizer adds.
            special: tokens that it matches in the text itself; each begins with a bracket.
            lowercase: whether it makes no difference between upper and lower case.
        """
        self._tokenizer, self._special, self._lowercase = tokenizer, special, lowercase
        self._known: dict[str, list[int]] = {}  # of this generation
        self._older: dict[str, list[int]] = {}  # of the one before
        inner: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
        around: list[int] = tokenizer.encode("a").ids
        at = around.index(inner[0])
        self._before, self._after = around[:at], around[at + len(inner) :]
        self._most = max_tokens - len(self._after)
        self._likely = LIKELY_CHARS * max_tokens

    def ids(self, text: str, n_chars: int) -> list[int] | None:
        """The ids as the tokenizer gives them, truncated, with those that it adds; None: ask the tokenizer.

        Args:
            text: without lone surrogates. If it is longer than n_chars, by more than any special token is, it may go on.
            n_chars: that are read; of a longer text the last word may go on, and there must be enough ids without it.
        """
        if ("[" in text or "<" in text) and any(token in text for token in self._special):
            return None
        for n in (min(self._likely, n_chars), n_chars):
            found = self._beginning(text, n)
            if found is not None or len(text) <= n:
                return found
        return None

    def _beginning(self, text: str, n_chars: int) -> list[int] | None:
        """The ids by the first n_chars characters alone; None if they do not say, or a word is too long."""
        is_whole = len(text) <= n_chars
        words = self._split(text if is_whole else text[:n_chars])
        if not is_whole and words:
            words.pop()
        known, found = self._known, list(self._before)
        for word in words:
            ids = known.get(word)
            if ids is None:
                if len(word) > MAX_CHARS:
                    return None
                ids = self._learn(word)
            found += ids
        if not is_whole and len(found) < self._most:
            return None
        return found[: self._most] + self._after

    def _split(self, text: str) -> list[str]:
        """The words and marks of a text, and what is odd from space to space."""
        if not _ODD.search(text):
            return _PLAIN.findall(text.lower() if self._lowercase else text)
        words: list[str] = []
        for chunk in _CHUNKS.findall(text):
            if chunk.isascii() and chunk.isprintable():
                words += _PLAIN.findall(chunk)
            else:
                words.append(chunk)
        return words

    def _learn(self, word: str) -> list[int]:
        """The ids of a word that this generation has not seen; of one that leaves no room for others, more than fit."""
        ids = self._older.get(word)
        if ids is None:
            ids = self._tokenizer.encode_batch_fast([word], add_special_tokens=False)[0].ids
        if len(self._known) >= MAX_KNOWN:
            self._older, self._known = self._known, {}
        self._known[word] = ids
        return ids
