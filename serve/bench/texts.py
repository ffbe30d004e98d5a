"""The texts that a bundle is timed on: as they come, and of stated numbers of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from potstill.contract.bundle import read_golden
from potstill.contract.texts import Text, read_texts

LENGTHS = (8, 16, 32, 128)  # tokens, special ones included
MIX = "mix"  # the texts as they come
_MOST_WORDS = 400  # looked at for one text of a length; more than any of them needs
_STRIDE = 7  # words between the beginnings of two texts of a length; no multiple of it is a usual sentence

Count = Callable[[Text], int]


def mixed_texts(bundle: Path, file: Path | None, n: int, target: bool) -> list[Text]:
    """As many texts as are asked for, from a file or the bundle's golden ones, repeated if need be; raises FormatError."""
    if file is not None:
        texts = read_texts(file, target=target).texts
    else:
        texts = [Text(row.text, target=row.target) for row in read_golden(bundle) if row.text.strip() and "\0" not in row.text]
    return [texts[i % len(texts)] for i in range(n)]


def texts_of(length: int, texts: list[Text], n: int, count: Count) -> list[Text]:
    """Pieces of real texts with exactly so many tokens, or as many as fit where words have several; n of them, repeated if need be.

    The texts are read one after the other, and a piece begins every few words and ends before the first word too many.

    Args:
        length: tokens, special ones included.
        texts: at least one.
        n: how many are wanted.
        count: tokens of a text.
    """
    words = [word for text in texts for word in text.text.split()]
    words = list(itertools.islice(itertools.cycle(words), max(len(words), 2 * _MOST_WORDS)))
    begins = list(range(0, len(words) - _MOST_WORDS + 1, _STRIDE)) or [0]
    found: dict[str, Text] = {}
    for begin in begins[: 4 * n]:  # not every beginning has an end that fits exactly
        text = _longest(words[begin : begin + _MOST_WORDS], length, texts[0].target, count)
        if count(text) == length:
            found.setdefault(text.text, text)
        if len(found) == n:
            break
    kept = list(found.values()) or [_longest(words[:_MOST_WORDS], length, texts[0].target, count)]
    return [kept[i % len(kept)] for i in range(n)]


def _longest(words: list[str], length: int, target: str | None, count: Count) -> Text:
    """The most first words, at least one, that have at most so many tokens; by bisection, as more words have more tokens."""
    low, high = 1, min(len(words), length)
    while low < high:
        middle = (low + high + 1) // 2
        if count(Text(" ".join(words[:middle]), target=target)) <= length:
            low = middle
        else:
            high = middle - 1
    return Text(" ".join(words[:low]), target=target)
