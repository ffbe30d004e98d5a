"""Features of a text that need no model: visible traits, length, and terms (words, symbols and pairs of words). Axis: N texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TITLE = re.compile(r"\A[^\n]{1,120}\n[^\S\n]*\n\s*(?=\S)")  # a short first line, then a blank one
URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)

TRAITS: dict[str, re.Pattern[str]] = {
    "a title (short first line, then a blank one)": TITLE,
    "a line break": re.compile(r"\n"),
    "a URL": URL,
    "markdown": re.compile(r"\[[^\[\]\n]+\]\([^()\n]+\)|\*\*|^(?:#{1,6} |> ?|[*-] |\d+\. )", re.MULTILINE),
    "HTML": re.compile(r"</?[a-z][^<>\n]*>|&(?:[a-z]+|#\w+);", re.IGNORECASE),
    "a ticker ($ABC)": re.compile(r"(?<!\w)\$[A-Za-z]{1,6}\b"),
    "a @name": re.compile(r"(?<![\w.])@\w+"),
    "a #tag": re.compile(r"(?<!\w)#[^\W\d]\w*"),
    "an emoji": re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]"),
    "a digit": re.compile(r"\d"),
    "a question mark": re.compile(r"[?？]"),
    "quotation marks": re.compile(r"[\"“”„«»]"),
    "an end without punctuation": re.compile(r"\w\s*\Z"),
    "an end that is cut off (… or ...)": re.compile(r"(?:…|\.\.\.)\s*\Z"),
    "a lower-case start": re.compile(r"\A\s*[a-zß-öø-ÿа-яα-ω]"),
    "no lower-case letter": re.compile(r"\A(?=[^a-zß-öø-ÿа-яα-ω]*\Z)(?=.*[A-ZÀ-ÖØ-ÞА-ЯΑ-Ω]{2})", re.DOTALL),
}


def trait_table(texts: list[str]) -> NDArray[np.float64]:
    """float64 [N, traits]: 1 where a text has the trait, else 0, in the order of TRAITS."""
    return np.array([[float(pattern.search(text) is not None) for pattern in TRAITS.values()] for text in texts])


def lengths(texts: list[str]) -> NDArray[np.int64]:
    """int64 [N]: the length of each text in characters."""
    return np.array([len(text) for text in texts], dtype=np.int64)


# --- terms

_TOKEN = re.compile(r"[$#]?\w+(?:['’&.-]\w+)*|[^\w\s]")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{2,}")  # scripts without spaces: pairs of characters are terms


def terms_in(text: str) -> set[str]:
    """Words, symbols such as emoji, and pairs of neighbouring words, in lower case."""
    return set(term_occurrences(text))


def term_occurrences(text: str) -> list[str]:
    """The terms of a text, each as often as it occurs."""
    tokens = [token for token in _TOKEN.findall(text.casefold()) if len(token) > 1 or _is_symbol(token)]
    return [*tokens, *(f"{a} {b}" for a, b in pairwise(tokens)), *_character_pairs(text)]


def _character_pairs(text: str) -> Iterator[str]:
    """Neighbouring characters of scripts that put no spaces between words."""
    for run in _SPACELESS.findall(text):
        yield from (run[i : i + 2] for i in range(len(run) - 1))


def _is_symbol(token: str) -> bool:
    """Whether a single character is a term by itself: an emoji or an ideograph, not a digit, a letter or a comma."""
    return unicodedata.category(token) in ("So", "Lo")
