"""How often a certificate is exceeded on texts to come, and how much it leaves on the table: re-splits of real sets with gold.

    python benchmarks/certificates.py DATA [--splits 300] [--gold 400]

A student stands in: logistic regression on 500 texts' MiniLM embeddings. Its answers to 2,100 other texts are split again and
again into gold to certify on, texts for the reference, and texts to come. Beside the certificate stands the point rule, the lowest
threshold whose precision on the gold at hand is the wanted one. DATA holds a folder per set: `*.jsonl.gz` of `text` and `label`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from potstill.contract.texts import Text
from potstill.labeler.embeddings import embeddings
from potstill.models.catalog import find_backbone
from potstill.serve.offline.certify import certified_switch
from potstill.trainer.calibration.thresholds import lowest_threshold, wilson

SETS = ("financial_phrasebank", "ag_news", "trec", "sst2", "twitter_financial_news")
N_TRAIN, N_ANSWERED, N_REFERENCE = 500, 2100, 50
CONFIDENCE = 0.95


def answers(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(probability of each answer, whether it is right) of a student on texts that it was not trained on."""
    lines = [line for file in sorted(folder.glob("*.jsonl.gz")) for line in gzip.decompress(file.read_bytes()).splitlines()]
    rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    rows = [row for row in rows if row.get("label") is not None][: N_TRAIN + N_ANSWERED]
    vectors = embeddings([Text(row["text"], str(i)) for i, row in enumerate(rows)], find_backbone("all-minilm-l6-v2").path)
    labels = np.array([str(row["label"]) for row in rows])
    student = LogisticRegression(C=10, max_iter=300).fit(vectors[:N_TRAIN], labels[:N_TRAIN])
    probs = student.predict_proba(vectors[N_TRAIN:])
    return probs.max(axis=1), student.classes_[probs.argmax(axis=1)] == labels[N_TRAIN:]


def best_share(top: NDArray[np.float64], right: NDArray[np.bool_], accuracy: float) -> float:
    """The share that can be answered with this accuracy on exactly these texts."""
    hits = np.cumsum(right[np.argsort(-top, kind="stable")]) / np.arange(1, len(top) + 1)
    reached = np.flatnonzero(hits >= accuracy)
    return (reached[-1] + 1) / len(top) if len(reached) else 0.0


def resplit(
    top: NDArray[np.float64], right: NDArray[np.bool_], accuracy: float, n_splits: int, n_gold: int
) -> dict[str, list[float]]:
    """By rule, what every split gave: whether the accuracy was missed on the texts to come, and the share lost against the best."""
    rng, found = (
        np.random.default_rng(0),
        {"certified": [], "point": [], "certified gap": [], "point gap": [], "certified none": []},
    )
    for _ in range(n_splits):
        order = rng.permutation(len(top))
        gold, reference, fresh = np.split(order, [n_gold, n_gold + N_REFERENCE])
        switch = certified_switch(top[gold], right[gold], top[reference], accuracy, CONFIDENCE)
        thresholds = {
            "certified": None if switch is None else switch.sure,
            "point": lowest_threshold(top[gold], right[gold], accuracy),
        }
        best = best_share(top[fresh], right[fresh], accuracy)
        found["certified none"].append(float(switch is None))
        for name, threshold in thresholds.items():
            answered = np.zeros(len(fresh), bool) if threshold is None else top[fresh] >= threshold
            missed = answered.any() and right[fresh][answered].mean() < accuracy
            found[name].append(float(missed))
            found[f"{name} gap"].append(best - answered.mean())
    return found


def main() -> None:
    """Print a line for each set and accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", type=int, default=300)
    parser.add_argument("--gold", type=int, default=400, help="texts to certify on")
    options = parser.parse_args()
    print(f"{options.splits} splits, {options.gold} gold texts, confidence {CONFIDENCE}; exceeded: missed on the texts to come")
    print(f"{'set':24} {'all':>5} {'wanted':>6}  {'exceeded':>22}  {'point rule':>22}  {'share below best':>16}  none")
    for name in SETS:
        top, right = answers(options.data / name)
        for accuracy in sorted({round(min(0.97, right.mean() + 0.05), 2), 0.9}):
            found = resplit(top, right, accuracy, options.splits, options.gold)
            shown = []
            for rule in ("certified", "point"):
                n = int(sum(found[rule]))
                low, high = wilson(n, options.splits)
                shown.append(f"{n / options.splits:.3f} [{low:.3f}, {high:.3f}]")
            gap, none = np.mean(found["certified gap"]), np.mean(found["certified none"])
            print(
                f"{name:24} {right.mean():5.3f} {accuracy:6.2f}  {shown[0]:>22}  {shown[1]:>22}  {gap:16.3f}  {none:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
