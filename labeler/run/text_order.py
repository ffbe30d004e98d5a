"""In which order texts are labelled when not all can be: spread over the embedding space, copies left out, gold in between.

Axes: N texts, H width, K clusters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.files import digest
from potstill.contract.texts import Text
from potstill.models.catalog import ModelFolder

N_CLUSTERS = 64
_N_STEPS, _BLOCK = 5, 16_384  # of k-means; texts whose similarities are in memory at once
_N_FIRST = 256  # texts whose embedding shows how long the others take


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


def spread(texts: Sequence[Text], encoder: ModelFolder, seconds: float) -> list[Text]:
    """The texts in an order whose every beginning is spread over what they are about.

    Args:
        texts: at least two.
        encoder: in whose embedding space they lie.
        seconds: that embedding may take. Texts beyond that come last, in the order of their ids.
    Raises:
        FormatError: if the encoder cannot be read.
        ModuleNotFoundError: if torch or transformers is not installed.
    """
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    began = time.monotonic()
    drawn = sorted(texts, key=lambda text: digest.of_value(text.id))  # a sample, whatever the order of the file
    vectors = embeddings(drawn[:_N_FIRST], encoder.path)
    n_more = int(_N_FIRST * (seconds / (time.monotonic() - began) - 1))  # the first ones paid for loading the encoder, too
    if n_more > 0 and len(drawn) > _N_FIRST:
        vectors = np.concatenate([vectors, embeddings(drawn[_N_FIRST : _N_FIRST + n_more], encoder.path)])
    return [*(drawn[i] for i in spread_order(vectors)), *drawn[len(vectors) :]]


def spread_order(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """An order in which texts of every region come by turns, int [N]: one of each cluster, then a second one, and so on.

    Clusters are those of a few steps of spherical k-means from far apart starting points (k-means++, Arthur and Vassilvitskii 2007,
    SODA, section 2.2). Time and memory grow with N times the number of clusters, not with N squared.

    Args:
        vectors: float32 [N, H], rows of length 1; N is at least 1.
        seed: of starting points, and of the order inside a cluster.
    """
    rng = np.random.default_rng(seed)
    clusters = _clusters(vectors, min(N_CLUSTERS, len(vectors)), rng)
    chance = rng.permutation(len(vectors))  # inside a cluster: its middle alone would miss what is odd, its edge what is common
    turns = np.empty(len(vectors), dtype=np.int64)
    for cluster in range(clusters.max() + 1):
        own = np.flatnonzero(clusters == cluster)
        turns[own[np.argsort(chance[own])]] = np.arange(len(own))
    return np.lexsort((chance, turns))


def _clusters(vectors: NDArray[np.float32], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cluster of every text, int [N]."""
    centers = vectors[_far_apart(vectors, n, rng)]  # [K, H]
    for _ in range(_N_STEPS):
        nearest = _nearest(vectors, centers)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, vectors)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(norms > 0, sums / np.maximum(norms, 1e-9), centers)  # an empty cluster stays where it is
    return _nearest(vectors, centers)


def _far_apart(vectors: NDArray[np.float32], n: int, rng: np.random.Generator) -> list[int]:
    """Indices of n texts, each drawn with a probability that grows with its distance from those before it."""
    chosen = [int(rng.integers(len(vectors)))]
    similarity = np.full(len(vectors), -1.0, dtype=np.float32)
    while len(chosen) < n:
        similarity = np.maximum(similarity, vectors @ vectors[chosen[-1]])
        distance = np.clip(1.0 - similarity.astype(np.float64), 0, None)
        distance[chosen] = 0
        if not distance.sum() > 0:  # all others are equal to a chosen one
            break
        chosen.append(int(rng.choice(len(vectors), p=distance / distance.sum())))
    return chosen


def _nearest(vectors: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest center of every text, int [N], block by block."""
    blocks = [(vectors[i : i + _BLOCK] @ centers.T).argmax(axis=1) for i in range(0, len(vectors), _BLOCK)]
    return np.concatenate(blocks)
