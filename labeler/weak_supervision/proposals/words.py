"""Words as proposals: those that stand far more often in texts to which the teacher surely gives a label than in its other texts.

Axes: N texts, C labels, W words and phrases.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.task import Rule
from potstill.labeler.weak_supervision.proposals.gate import Proposal, TeacherLabels

ORIGIN = "words"
N_PER_LABEL = 8  # proposals of a label; each one more makes the correction harder on all
MIN_TEXTS = 4  # that a word stands in
LONGEST = 3  # words of a phrase
SURE = 0.5  # share of the texts that are looked at: those of which the teacher is surest
PRIOR = 100.0  # how many words of all texts together count as seen with each label before
_WORD = re.compile(r"[\w'’$%&-]+|[^\w\s.,;:!?()\[\]\"/\\*#>|~^_=+-]")  # words, and pictures such as 🚀


def propose_words(teacher: TeacherLabels) -> list[Proposal]:
    """The words and phrases that speak most for a label, as keyword rules.

    They are ranked by their log-odds between the label's texts and the others, in standard deviations, with all texts as a prior:
    a word that is seen twice is not believed, and one that is frequent everywhere says nothing.

    Args:
        teacher: its labels; texts of the judging half are not looked at.
    Source: Monroe, Colaresi, Quinn 2008, Fightin' Words, Political Analysis 16(4), equations 16 to 22.
    """
    looked_at = np.flatnonzero(~teacher.judging)
    surest = teacher.probs.max(axis=1)
    sure = looked_at[np.argsort(-surest[looked_at], kind="stable")][: max(1, round(SURE * len(looked_at)))]
    found = [set(phrases(teacher.texts[i].text)) for i in sure]
    favourites = teacher.probs[sure].argmax(axis=1)
    total = Counter(phrase for one in found for phrase in one)
    names = sorted(phrase for phrase, n in total.items() if n >= MIN_TEXTS)
    if not names:
        return []
    places = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(teacher.labels), len(names)))  # [C, W], texts of the label that hold it
    for label, one in zip(favourites, found, strict=True):
        counts[label, [places[phrase] for phrase in one if phrase in places]] += 1
    scores = log_odds(counts)
    proposals = []
    for label, name in enumerate(teacher.labels):
        for phrase in _best(names, scores[label], [frozenset(places.keys() & one) for one in found]):
            proposals.append(Proposal(Rule(name=f"{name}: {phrase}", label=name, keywords=[phrase]), ORIGIN))
    return proposals


def phrases(text: str) -> Iterator[str]:
    """Every word of a text, and every phrase of up to LONGEST words that stand side by side, in small letters."""
    words = [found[0].lower() for found in _WORD.finditer(text)]
    for length in range(1, LONGEST + 1):
        for start in range(len(words) - length + 1):
            phrase = " ".join(words[start : start + length])
            if phrase in " ".join(text.lower().split()):  # as a rule will look for it: nothing stood between the words
                yield phrase


def log_odds(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of each word between a label and the others, in standard deviations, float [C, W]. Args: counts float [C, W]."""
    overall = counts.sum(axis=0)
    prior = PRIOR * overall / overall.sum()  # [W]
    others = overall - counts
    own_odds = (counts + prior) / (counts.sum(axis=1, keepdims=True) + PRIOR - counts - prior)
    other_odds = (others + prior) / (others.sum(axis=1, keepdims=True) + PRIOR - others - prior)
    variance = 1 / (counts + prior) + 1 / (others + prior)
    return np.asarray((np.log(own_odds) - np.log(other_odds)) / np.sqrt(variance))


def _best(names: Sequence[str], scores: NDArray[np.float64], found: Sequence[frozenset[str]]) -> list[str]:
    """The phrases with the highest scores above 0, without those that stand in the same texts as a better one."""
    chosen: list[str] = []
    seen: list[frozenset[int]] = []
    for place in np.argsort(-scores, kind="stable"):
        if scores[place] <= 0 or len(chosen) == N_PER_LABEL:
            break
        where = frozenset(i for i, one in enumerate(found) if names[place] in one)
        if any(len(where & other) > len(where | other) / 2 for other in seen):
            continue
        chosen.append(names[place])
        seen.append(where)
    return chosen
