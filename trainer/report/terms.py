"""Terms that occur in wrongly answered texts more often than chance explains, as candidates for the task's knowledge.

Axes: N texts, K terms.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

from potstill.trainer.data.text_features import terms_in
from potstill.trainer.report.answers import AnsweredTexts

MIN_TEXTS = 4  # a term in fewer texts cannot reach any useful level
MAX_SHARE = 0.15  # of the texts; more frequent terms are not technical terms
MAX_TERMS = 12
MAX_FDR = 0.1  # false discovery rate up to which a term stands out


@dataclass(frozen=True)
class MistakeTerm:
    """A term, and the mistakes on the texts that hold it."""

    term: str
    n: int  # texts with the term
    n_wrong: int  # of these: answered wrong
    p: float  # probability of as many wrong ones or more, if mistakes were independent of the term
    q: float  # smallest false discovery rate at which the term stands out
    mixup: str  # the most frequent mistake: "bearish taken for bullish"

    @property
    def stands_out(self) -> bool:
        """Whether the term is over-represented beyond chance."""
        return self.q <= MAX_FDR


def mistake_terms(answered: AnsweredTexts) -> list[MistakeTerm]:
    """Find the terms most over-represented among wrongly answered texts, the smallest p-value first.

    Fisher's exact test, one-sided, over texts (a term counts once for each text), with the false discovery rate of Benjamini and
    Hochberg 1995 over all tested terms. Terms that the task explains already are left out; of terms that occur in exactly the same
    texts the longest is kept.

    Returns: at most MAX_TERMS, all more frequent among wrongly answered texts than among all texts.
    """
    wrong = ~answered.right
    texts_of = _candidates(answered)
    if not texts_of or not wrong.any():
        return []
    counts = [(len(members), int(wrong[list(members)].sum())) for members in texts_of.values()]
    levels = fisher_p_values(np.array(counts), len(wrong), int(wrong.sum()))
    rates = false_discovery_control(levels)
    ranked = sorted(zip(texts_of, counts, levels, rates), key=lambda row: (row[2], row[0]))
    return [
        MistakeTerm(term, n, n_wrong, float(p), float(q), _mixup(answered, texts_of[term]))
        for term, (n, n_wrong), p, q in ranked
        if n_wrong * len(wrong) > n * wrong.sum()
    ][:MAX_TERMS]


def fisher_p_values(counts: NDArray[np.int64], n_texts: int, n_wrong: int) -> NDArray[np.float64]:
    """float64 [K]: p-values of Fisher's exact test, one-sided.

    Args:
        counts: int [K, 2], texts with a term, and wrongly answered ones among them.
        n_texts, n_wrong: of all texts.
    """
    return np.asarray(hypergeom.sf(counts[:, 1] - 1, n_texts, n_wrong, counts[:, 0]), dtype=np.float64)


def _candidates(answered: AnsweredTexts) -> dict[str, tuple[int, ...]]:
    """Indices of the texts that hold each term to test."""
    known = {entry.term.casefold() for entry in answered.task.knowledge}
    places: dict[str, list[int]] = {}
    for i, text in enumerate(answered.texts):
        for term in terms_in(text.text):
            places.setdefault(term, []).append(i)
    most = MAX_SHARE * len(answered.texts)
    by_texts: dict[tuple[int, ...], str] = {}
    for term, members in sorted(places.items(), key=lambda item: (len(item[0]), item[0])):
        if MIN_TEXTS <= len(members) <= most and term not in known:
            by_texts[tuple(members)] = term  # a longer term with the same texts replaces a shorter one
    return {term: members for members, term in by_texts.items()}


def _mixup(answered: AnsweredTexts, members: tuple[int, ...]) -> str:
    """The most frequent mistake among some texts; of equals the first."""
    labels = answered.labels
    pairs = Counter((int(answered.gold[i]), int(answered.answers[i])) for i in members if not answered.right[i])
    (gold, answer), _ = pairs.most_common(1)[0]
    return f"{labels[gold]} taken for {labels[answer]}"


def as_knowledge(terms: list[MistakeTerm]) -> str:
    """The terms that stand out, as entries of `task.toml`; empty if there are none.

    A person must write the meanings: they are left empty, and `potstill task check` reports every empty one.
    """
    return "\n".join(_entry(term) for term in terms if term.stands_out)


def _entry(term: MistakeTerm) -> str:
    """One term as TOML, with its mistakes in a comment."""
    about = f"{_one_line(term.mixup)}: {term.n_wrong} of {term.n} texts wrong"
    return f'# {about}\n[[knowledge]]\nterm = {_toml_string(term.term)}\nmeaning = ""\n'


def _one_line(text: str) -> str:
    """The text as a TOML comment, which may hold no line break or control character."""
    return "".join(c if c.isprintable() else " " for c in text)


def _toml_string(text: str) -> str:
    """The text as a TOML basic string: JSON's escapes are valid, but DEL must be escaped too."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
