"""A map of texts in two dimensions: those that a backbone finds similar lie close together.

Axes: N texts, H width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from potstill.contract.texts import Text

N_COMPONENTS = 30  # kept before neighbours are looked for
PERPLEXITY = 30.0  # neighbours that each text is drawn to, but at most a third of all
MIN_TEXTS = 10  # for a map; with fewer there is nothing to see


@dataclass(frozen=True)
class MappedTexts:
    """Texts and what is known of each."""

    texts: list[Text]  # [N]
    answers: list[str]  # [N], the student's
    confidences: list[float]  # [N], its probabilities of these
    vectors: NDArray[np.float32]  # [N, H], of the backbone
    teacher: list[str | None]  # [N], the majority label
    agreements: list[float | None]  # [N], share of the paths for it


@dataclass(frozen=True)
class MapPoint:
    """One dot."""

    x: float  # 0 to 100, as y
    y: float
    text: Text
    label: str  # gold if there is, else the teacher's, else the student's
    answer: str
    confidence: float
    teacher: str | None
    agreement: float | None
    wrong: bool | None  # against gold; without it, against the teacher; None: nobody else labelled it

    @property
    def agreement_class(self) -> int | None:
        """The agreement in fifths of the way from 0 to 1: 0 to 4."""
        return None if self.agreement is None else min(4, int(self.agreement * 5))


@dataclass(frozen=True)
class TextMap:
    """All dots, and the labels by their number."""

    points: list[MapPoint]
    labels: list[tuple[str, int]]  # the most frequent first
    n_gold: int

    @property
    def summary(self) -> str:
        """What the map shows, for those who do not see it."""
        n_wrong = sum(point.wrong is True for point in self.points)
        shares = ", ".join(f"{name} {n}" for name, n in self.labels)
        return f"A map of {len(self.points)} texts, {self.n_gold} of them gold: {shares}; {n_wrong} are answered otherwise."


def text_map(known: MappedTexts, places: NDArray[np.float64] | None = None) -> TextMap:
    """The map of the texts.

    Args:
        known: at least `MIN_TEXTS` texts.
        places: of the texts, as :func:`placed` gives them, float [N, 2]; None: they are looked for.
    """
    places = placed(known.vectors) if places is None else places
    points = []
    for i, text in enumerate(known.texts):
        right = text.gold or known.teacher[i]
        wrong = None if right is None else known.answers[i] != right
        x, y = (round(float(value), 1) for value in places[i])
        label = right or known.answers[i]
        about = (known.answers[i], known.confidences[i], known.teacher[i], known.agreements[i])
        points.append(MapPoint(x, y, text, label, *about, wrong))
    counts: dict[str, int] = {}
    for point in points:
        counts[point.label] = counts.get(point.label, 0) + 1
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return TextMap(points, ranked, sum(text.gold is not None for text in known.texts))


def placed(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """float64 [N, 2], from 2 to 98: where each text lies; the same texts and seed give the same places on the same machine.

    Args:
        vectors: [N, H], N at least `MIN_TEXTS`.
    Source: van der Maaten and Hinton 2008, JMLR 9 (t-SNE), started from the first two principal components.
    """
    n, width = vectors.shape
    if float(np.ptp(vectors, axis=0).max()) < 1e-6:  # all texts are one
        return np.full((n, 2), 50.0)
    few = PCA(min(N_COMPONENTS, n - 1, width), random_state=seed).fit_transform(vectors.astype(np.float64))
    found = TSNE(2, perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed, n_jobs=1).fit_transform(few)
    low, high = found.min(axis=0), found.max(axis=0)
    places: NDArray[np.float64] = 2 + 96 * (found.astype(np.float64) - low) / np.maximum(high - low, 1e-9)
    return places
