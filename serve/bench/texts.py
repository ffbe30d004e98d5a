"""The texts that a bundle and a server are measured on: as given, shuffled, and with a chosen number of tokens."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from potstill.contract.bundle import read_golden
from potstill.contract.texts import Text, read_texts

LENGTHS = (8, 16, 32, 128)  # tokens, special ones included
_MOST_WORDS = 400  # words considered for one text of a given length; more than any length needs
_STRIDE = 7  # words between the starts of two texts of one length; prime, so that starts do not follow the sentences

Count = Callable[[Text], int]
T = TypeVar("T")


def texts_as_given(bundle: Path, file: Path | None, n: int, target: bool) -> list[Text]:
    """n texts from a file, or from the bundle's golden texts; repeated if there are fewer. Raises FormatError."""
    if file is not None:
        texts = read_texts(file, target=target).texts
    else:
        texts = [Text(row.text, target=row.target) for row in read_golden(bundle) if row.text.strip() and "\0" not in row.text]
    return [texts[i % len(texts)] for i in range(n)]


def shuffled(items: Sequence[T], seed: int = 0) -> list[T]:
    """The items in random order, so that the order has nothing to do with their lengths."""
    order = list(items)
    random.Random(seed).shuffle(order)
    return order


def texts_of(length: int, texts: list[Text], n: int, count: Count) -> list[Text]:
    """Cut n pieces of real texts with exactly `length` tokens, or as many as fit where a word has several tokens.

    The texts are joined. A piece starts every few words and ends before the first word that does not fit. Pieces are repeated if
    there are fewer than n.

    Args:
        length: tokens, special ones included.
        texts: at least one.
        n: number of pieces.
        count: counts the tokens of a text.
    """
    words = [word for text in texts for word in text.text.split()]
    words = list(itertools.islice(itertools.cycle(words), max(len(words), 2 * _MOST_WORDS)))
    starts = list(range(0, len(words) - _MOST_WORDS + 1, _STRIDE)) or [0]
    found: dict[str, Text] = {}
    for start in starts[: 4 * n]:  # not every start has an end that fits exactly
        text = _longest(words[start : start + _MOST_WORDS], length, texts[0].target, count)
        if count(text) == length:
            found.setdefault(text.text, text)
        if len(found) == n:
            break
    kept = list(found.values()) or [_longest(words[:_MOST_WORDS], length, texts[0].target, count)]
    return [kept[i % len(kept)] for i in range(n)]


def _longest(words: list[str], length: int, target: str | None, count: Count) -> Text:
    """The longest run of first words within `length` tokens, at least one word; bisected, since more words have more tokens."""
    low, high = 1, min(len(words), length)
    while low < high:
        middle = (low + high + 1) // 2
        if count(Text(" ".join(words[:middle]), target=target)) <= length:
            low = middle
        else:
            high = middle - 1
    return Text(" ".join(words[:low]), target=target)


def text_of(n_tokens: int, texts: Sequence[Text], count: Count) -> Text:
    """One text of at most n_tokens tokens (at least one word), made from the words of the given texts, repeated if need be."""
    words = " ".join(text.text for text in texts).split() or ["text"]
    target = texts[0].target
    taken: list[str] = []
    for word in itertools.islice(itertools.cycle(words), 10 * n_tokens):
        if count(Text(" ".join([*taken, word]), target=target)) > n_tokens:
            break
        taken.append(word)
    return Text(" ".join(taken) or words[0], target=target)
