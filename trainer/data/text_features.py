"""What a text looks like, whatever its words: its length, and traits that a person can see."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

TITLE = re.compile(r"\A[^\n]{1,120}\n[^\S\n]*\n\s*(?=\S)")  # a first line that is short, and a blank one
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
    """float [N, traits]: 1 where a text has the trait, in the order of TRAITS, else 0."""
    return np.array([[float(pattern.search(text) is not None) for pattern in TRAITS.values()] for text in texts])


def lengths(texts: list[str]) -> NDArray[np.int64]:
    """int [N]: characters."""
    return np.array([len(text) for text in texts], dtype=np.int64)
