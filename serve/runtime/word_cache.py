"""A cache of token ids by word: most words of a text have been tokenized before.

BERT tokenizers normalize character by character, split at spaces and around punctuation, and look up each word on its own. So the
ids of a text are its words' ids in a row, and a dictionary lookup takes a tenth of the tokenizer's time. Anything other than ASCII
letters, digits and punctuation is cached as a whole, from space to space. Special tokens written out in a text are matched before
words, so a text that could contain one is left to the tokenizer. Tokenizers of other kinds are not cached.
"""

from __future__ import annotations

import re

from tokenizers import Tokenizer

MAX_CHARS = 128  # longest cached word; a text with a longer one is left to the tokenizer
LIKELY_CHARS = 5  # characters per token: a prefix of this length times max_tokens is tried first
MAX_KNOWN = 16_384  # words of one generation, about three megabytes; a full generation replaces the one before it
_ODD = re.compile(r"[^\t\n\r -~]")  # non-ASCII, and ASCII control characters that BERT drops; both may be inside a word
_PLAIN = re.compile(r"[a-zA-Z0-9]+|[^ \t\n\r]")
_CHUNKS = re.compile(r"[^ \t\n\r]+")  # other kinds of space are left to the tokenizer, which drops some and keeps others


class WordCache:
    """The cache of one tokenizer. Threads may share it: if two add a word at once, they add the same ids."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, special: list[str], *, lowercase: bool) -> None:
        """Create an empty cache.

        Args:
            tokenizer: a BERT tokenizer that truncates to max_tokens.
            max_tokens: tokens kept of a text, special tokens included.
            special: tokens matched in the text itself; each begins with a bracket.
            lowercase: True if the tokenizer ignores case.
        """
        self._tokenizer, self._special, self._lowercase = tokenizer, special, lowercase
        self._known: dict[str, list[int]] = {}  # current generation
        self._older: dict[str, list[int]] = {}  # the generation before
        inner: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
        around: list[int] = tokenizer.encode("a").ids
        at = around.index(inner[0])
        self._before, self._after = around[:at], around[at + len(inner) :]
        self._most = max_tokens - len(self._after)
        self._likely = LIKELY_CHARS * max_tokens

    def ids(self, text: str, n_chars: int) -> list[int] | None:
        """The ids that the tokenizer would return, truncated, with special tokens; None if only the tokenizer can tell.

        Args:
            text: without lone surrogates. It may be a prefix itself if it exceeds n_chars by more than any special token's length.
            n_chars: characters to read. In a longer text the last word may be cut, so there must be enough ids without it.
        """
        if ("[" in text or "<" in text) and any(token in text for token in self._special):
            return None
        for n in (min(self._likely, n_chars), n_chars):
            found = self._beginning(text, n)
            if found is not None or len(text) <= n:
                return found
        return None

    def _beginning(self, text: str, n_chars: int) -> list[int] | None:
        """The ids from the first n_chars characters alone; None if these are too few, or a word is too long."""
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
        """Split a text into words and punctuation; chunks with other characters stay whole, from space to space."""
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
        """Cache the ids of a word that is new to the current generation. A very long word may have more ids than fit a text."""
        ids = self._older.get(word)
        if ids is None:
            ids = self._tokenizer.encode_batch_fast([word], add_special_tokens=False)[0].ids
        if len(self._known) >= MAX_KNOWN:
            self._older, self._known = self._known, {}
        self._known[word] = ids
        return ids
