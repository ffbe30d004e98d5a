"""Which texts to label, and which of them twice, at the same number of paths: random texts are the bar.

    python benchmarks/teacher/which_texts.py --data DATA [--out out/text_prior] [--sets NAME ...] [--pool 1500] [--n 600]

Labels as `text_prior.py` does, two paths a text, into the same folder, so that what it labelled is not labelled again. A budget of
paths then goes to texts of the pool in several ways: random texts once each; texts spread over the embedding space (one of each
of 64 clusters in turn) once each; random texts twice; random texts once, and the least certain half of them a second time. A
linear model over the embeddings, which stands in for a student as in `potstill report --budget`, learns from what was labelled
and is scored on gold texts. Prints a Markdown table: macro-F1, mean over draws, and the differences to the first way with 95 %
intervals over the draws, on the same draws of texts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from text_prior import SETS, labelled

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from student_table import Steps

from potstill.contract.scores.metrics import macro_f1
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.stand_in import learned_answers
from potstill.labeler.aggregation.other_texts.surroundings import Surroundings, TextSpace
from potstill.labeler.aggregation.path_table import PathTable, read_paths
from potstill.labeler.aggregation.soft_labels import distributions
from potstill.labeler.store.database import LabelStore, RunSettings

SHARES = (0.25, 0.5, 0.75)  # of the pool's texts: the budget in paths
N_DRAWS = 10
N_CLUSTERS, N_STEPS = 64, 5  # of k-means
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """A set whose texts all have two paths. Axes: N texts, H width, C labels."""

    table: PathTable
    settings: RunSettings
    vectors: NDArray[np.float32]  # [N, H]
    pool: Rows  # texts without gold
    scored: Rows
    gold: Rows  # of the scored texts

    def probs(self, rows: Rows, n_paths: int | Rows) -> Floats:
        """Soft labels of some texts, rising, refined by each other, with so many paths (each); float [n, C]."""
        part = self.table.of_texts(rows).first_paths(n_paths)
        return distributions(part, self.settings, DeriveConfig(refine="on"), Surroundings(vectors=self.vectors[rows])).probs

    def score(self, rows: Rows, probs: Floats) -> float:
        """Macro-F1 on the gold texts of a model that learned from these soft labels."""
        return macro_f1(learned_answers(self.vectors[rows], probs, self.vectors[self.scored]), self.gold)


def once(found: Labelled, order: Rows, budget: int) -> float:
    """One path for each of the first texts."""
    rows = np.sort(order[:budget])
    return found.score(rows, found.probs(rows, 1))


def twice(found: Labelled, order: Rows, budget: int) -> float:
    """Two paths for each of half as many texts."""
    rows = np.sort(order[: budget // 2])
    return found.score(rows, found.probs(rows, 2))


def again(found: Labelled, order: Rows, budget: int) -> float:
    """One path for each of two thirds as many texts, and a second one for the least certain half of them."""
    rows = np.sort(order[: budget * 2 // 3])
    n_paths = np.ones(len(rows), dtype=np.int64)
    n_paths[np.argsort(found.probs(rows, 1).max(axis=1), kind="stable")[: budget - len(rows)]] = 2
    return found.score(rows, found.probs(rows, n_paths))


def spread(found: Labelled, order: Rows, budget: int) -> float:
    """One path for each of the first texts in an order that is spread over the space."""
    return once(found, found.pool[spread_order(found.vectors[found.pool], seed=int(order[0]))], budget)


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
    for _ in range(N_STEPS):
        nearest = (vectors @ centers.T).argmax(axis=1)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, vectors)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(norms > 0, sums / np.maximum(norms, 1e-9), centers)  # an empty cluster stays where it is
    return (vectors @ centers.T).argmax(axis=1)


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


WAYS: dict[str, Callable[[Labelled, Rows, int], float]] = {
    "random, once": once,
    "spread, once": spread,
    "random, twice": twice,
    "random once, the doubtful twice": again,
}


def main() -> None:
    """Label, choose, score all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/text_prior"))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=["PhraseBank", "AG News", "TREC"])
    parser.add_argument("--pool", type=int, default=1500, help="texts that may be labelled")
    parser.add_argument("--n", type=int, default=600, help="texts that are scored")
    options = parser.parse_args()
    options.paths = 2
    steps, space = Steps(options.out.resolve()), TextSpace(DeriveConfig.backbone)
    print(f"| set | paths | {' | '.join(WAYS)} |\n| --- |" + " --- |" * (len(WAYS) + 1))
    for name in options.sets:
        found = read(name, steps, space, options)
        for share in SHARES:
            print(
                f"| {name} | {int(share * len(found.pool))} | {' | '.join(cells(found, int(share * len(found.pool))))} |",
                flush=True,
            )


def read(name: str, steps: Steps, space: TextSpace, options: argparse.Namespace) -> Labelled:
    """Label a set and read its paths."""
    file, gold = labelled(steps, name, options.data, options)
    with LabelStore.read(file) as store:
        run = store.find_run(None)
        table = read_paths(store, run)
    labels = list(run.settings.labels)
    wanted = np.array([labels.index(gold[text.id]) if text.id in gold else -1 for text in table.texts])
    scored = np.flatnonzero(wanted >= 0)
    return Labelled(table, run.settings, space.vectors(table.texts), np.flatnonzero(wanted < 0), scored, wanted[scored])


def cells(found: Labelled, budget: int) -> list[str]:
    """The cells of one budget."""
    orders = [np.random.default_rng(seed).permutation(found.pool) for seed in range(N_DRAWS)]
    scores = {name: np.array([way(found, order, budget) for order in orders]) for name, way in WAYS.items()}
    bar = scores["random, once"]
    made = [f"{bar.mean():.3f}"]
    for name in list(WAYS)[1:]:
        change = scores[name] - bar
        half = 1.96 * change.std(ddof=1) / np.sqrt(N_DRAWS)
        made.append(f"{change.mean():+.3f} [{change.mean() - half:+.3f}, {change.mean() + half:+.3f}]")
    return made


if __name__ == "__main__":
    main()
