"""In which order texts are labelled when not all can be: at random, copies left out, gold in between.

Random texts are what nothing beat: texts that differ most first cost four to eight points of macro-F1 on one set and gained nothing
measurable on three others (docs/results.md). And any beginning of a random order is a sample, so its label shares are those of the
whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.contract.files import digest
from potstill.contract.texts import Text


def without_copies(texts: Sequence[Text]) -> list[Text]:
    """The texts without those that repeat an earlier one but for case and white space; a text with gold is never left out."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for text in texts:
        key = " ".join(text.text.casefold().split()), text.target or ""
        if text.gold is not None or key not in seen:
            kept.append(text)
        seen.add(key)
    return kept


def with_gold_between(texts: Sequence[Text], gold: Sequence[Text]) -> list[Text]:
    """Both lists merged evenly, so that whatever is reached holds the same share of both."""
    places = [((i + 0.5) / len(texts), 0, i) for i in range(len(texts))] + [((i + 0.5) / len(gold), 1, i) for i in range(len(gold))]
    return [(texts, gold)[side][i] for _, side, i in sorted(places)]


def at_random(texts: Sequence[Text]) -> list[Text]:
    """The texts in an order that follows from their ids, whatever the order of the file; equal from run to run."""
    return sorted(texts, key=lambda text: digest.of_value(text.id))
