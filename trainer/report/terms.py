"""Terms that stand in wrongly answered texts more often than chance allows, as new knowledge for the task.

Axis: N texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

from potstill.trainer.report.answers import Judged

MIN_TEXTS = 4  # a term in fewer texts cannot reach any useful level
MAX_SHARE = 0.15  # of the texts; what stands in more of them is no technical term
MAX_TERMS = 12
ALARM = 0.1  # a term is called over-represented where at most this share of such terms is expected to be so by chance

_TOKEN = re.compile(r"[$#]?\w+(?:['’&.-]\w+)*|[^\w\s]")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{2,}")  # scripts without spaces: pairs of characters are terms


@dataclass(frozen=True)
class Term:
    """A term, and how the texts that hold it fare."""

    term: str
    n: int  # texts with the term
    n_wrong: int  # of them, answered wrong
    p: float  # probability of as many wrong ones or more, were errors spread over the texts by chance
    q: float  # smallest false discovery rate at which the term would be reported
    mixup: str  # the most frequent mistake: "bearish taken for bullish"

    @property
    def stands_out(self) -> bool:
        """Whether chance is a poor explanation."""
        return self.q <= ALARM


def terms_in(text: str) -> set[str]:
    """Words, symbols such as emoji, and pairs of neighbouring words, in lower case."""
    return set(occurrences(text))


def occurrences(text: str) -> list[str]:
    """The terms of a text, each as often as it stands there."""
    tokens = [token for token in _TOKEN.findall(text.casefold()) if len(token) > 1 or _is_symbol(token)]
    return [*tokens, *(f"{a} {b}" for a, b in pairwise(tokens)), *_pairs_of_characters(text)]


def _pairs_of_characters(text: str) -> Iterator[str]:
    """Neighbouring characters of scripts that put no spaces between words."""
    for run in _SPACELESS.findall(text):
        yield from (run[i : i + 2] for i in range(len(run) - 1))


def _is_symbol(token: str) -> bool:
    """Whether a single character means something by itself: an emoji or an ideograph, not a digit, a letter or a comma."""
    return unicodedata.category(token) in ("So", "Lo")


def error_terms(judged: Judged) -> list[Term]:
    """The terms most over-represented among wrongly answered texts, the least likely by chance first.

    Fisher's exact test, one-sided, over texts (a term counts once a text, so one text that repeats it weighs no more), with the
    false discovery rate of Benjamini and Hochberg 1995 over all terms that were looked at. Terms that the task explains already
    are left out; of terms that stand in the very same texts the longest is kept.

    Returns: at most MAX_TERMS, none of them rarer among the wrong than among all texts.
    """
    wrong = ~judged.right
    texts_of = _candidates(judged)
    if not texts_of or not wrong.any():
        return []
    counts = [(len(members), int(wrong[list(members)].sum())) for members in texts_of.values()]
    levels = chance_levels(np.array(counts), len(wrong), int(wrong.sum()))
    rates = false_discovery_control(levels)
    ranked = sorted(zip(texts_of, counts, levels, rates), key=lambda row: (row[2], row[0]))
    return [
        Term(term, n, n_wrong, float(p), float(q), _mixup(judged, texts_of[term]))
        for term, (n, n_wrong), p, q in ranked
        if n_wrong * len(wrong) > n * wrong.sum()
    ][:MAX_TERMS]


def chance_levels(counts: NDArray[np.int64], n_texts: int, n_wrong: int) -> NDArray[np.float64]:
    """float64 [K]: p-values of Fisher's exact test, one-sided.

    Args:
        counts: int [K, 2], texts with a term and wrong ones among them.
        n_texts, n_wrong: all texts, and the wrong ones.
    """
    return np.asarray(hypergeom.sf(counts[:, 1] - 1, n_texts, n_wrong, counts[:, 0]), dtype=np.float64)


def _candidates(judged: Judged) -> dict[str, tuple[int, ...]]:
    """Places of the texts that hold each term worth a look."""
    known = {entry.term.casefold() for entry in judged.task.knowledge}
    places: dict[str, list[int]] = {}
    for i, text in enumerate(judged.texts):
        for term in terms_in(text.text):
            places.setdefault(term, []).append(i)
    most = MAX_SHARE * len(judged.texts)
    by_texts: dict[tuple[int, ...], str] = {}
    for term, members in sorted(places.items(), key=lambda item: (len(item[0]), item[0])):
        if MIN_TEXTS <= len(members) <= most and term not in known:
            by_texts[tuple(members)] = term  # a longer term for the same texts takes the place of a shorter one
    return {term: members for members, term in by_texts.items()}


def _mixup(judged: Judged, members: tuple[int, ...]) -> str:
    """The most frequent mistake among some texts; a tie goes to the one met first."""
    labels = judged.labels
    pairs = Counter((int(judged.gold[i]), int(judged.answers[i])) for i in members if not judged.right[i])
    (gold, answer), _ = pairs.most_common(1)[0]
    return f"{labels[gold]} taken for {labels[answer]}"


def as_knowledge(terms: list[Term]) -> str:
    """The terms that stand out as entries of `task.toml`; empty if none does.

    What a term means only a person knows: it is left empty, and `potstill task check` points at every entry that still is.
    """
    return "\n".join(_entry(term) for term in terms if term.stands_out)


def _entry(term: Term) -> str:
    """One term as TOML, with what happened to it in a comment."""
    about = f"{_one_line(term.mixup)}: {term.n_wrong} of {term.n} texts wrong"
    return f'# {about}\n[[knowledge]]\nterm = {_toml_string(term.term)}\nmeaning = ""\n'


def _one_line(text: str) -> str:
    """Fit for a TOML comment, which ends with its line and may hold no control character."""
    return "".join(c if c.isprintable() else " " for c in text)


def _toml_string(text: str) -> str:
    """A TOML basic string; JSON's escapes are among its own, but a bare DEL is not allowed there."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
