"""What 200 labels of a scripted reader are worth: from the ranked queue of `potstill review`, and from the random one.

    python benchmarks/review/ranked_reader.py news.toml labels.db gold.jsonl --labels 200

The texts of a label store that have gold are split into a pool and a test half. The reader labels 200 texts of the pool and is
right as often as people agree (70 %), else it says one of the other labels at random. Its labels take the place of the teacher's
soft labels. A small student, logistic regression over the embeddings of the texts, learns from all the pool, and is scored by
macro-F1 on the test half. All queues are measured on the same splits with the same reader, so the differences are paired. A reader
that is always right is measured beside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from sklearn.linear_model import LogisticRegression  # noqa: E402

from potstill.contract.questions.questionnaire import load_any_task  # noqa: E402
from potstill.contract.scores.metrics import macro_f1  # noqa: E402
from potstill.contract.texts import read_texts  # noqa: E402
from potstill.labeler.aggregation.other_texts.smoothing import nearest  # noqa: E402
from potstill.labeler.embeddings import embeddings  # noqa: E402
from potstill.models.catalog import find_backbone  # noqa: E402
from potstill.review.corpus.texts import read_corpus  # noqa: E402
from potstill.review.queue.spread import spread_ranked  # noqa: E402
from potstill.review.queue.worth import worth  # noqa: E402
from potstill.workflows.people.ranking import N_NEIGHBOURS  # noqa: E402

QUEUES = ("none", "random", "doubt", "ranked")  # doubt: the teacher's doubt alone, as without torch


def read(vectors: np.ndarray, soft: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The student's probabilities for the test texts, after learning from soft labels: each label counts by its probability."""
    n, n_labels = soft.shape
    student = LogisticRegression(C=10.0, max_iter=500)
    student.fit(np.tile(vectors, (n_labels, 1)), np.repeat(np.arange(n_labels), n), sample_weight=soft.T.ravel() + 1e-6)
    return np.asarray(student.predict_proba(test))


def labelled(gold: np.ndarray, n_labels: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """What the reader says of each text, int [N]."""
    wrong = (gold + rng.integers(1, n_labels, len(gold))) % n_labels
    return np.where(rng.random(len(gold)) < right, gold, wrong)


def main() -> None:
    """Print macro-F1 by queue, and the paired differences from the random one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("task", "store", "gold"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    task = load_any_task(options.task)
    corpus = read_corpus(options.store, task)
    names, answers = task.label_names, corpus.answers[""]
    gold_of = {text.id: text.gold for text in read_texts(options.gold, labels=names, gold=True).texts}
    ids = [text_id for text_id in gold_of if text_id in answers]
    texts = [corpus.texts[text_id] for text_id in ids]
    vectors = embeddings(texts, find_backbone("all-minilm-l6-v2").path)
    soft = np.array([[answers[text_id].probs[name] for name in names] for text_id in ids])
    gold = np.array([names.index(gold_of[text_id]) for text_id in ids])
    print(f"{len(ids)} texts; the teacher is right on {np.mean(soft.argmax(axis=1) == gold):.3f} of them")
    for right in (0.7, 1.0):
        scores: dict[str, list[float]] = {queue: [] for queue in QUEUES}
        for seed in range(options.splits):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(ids))
            pool, test = order[: len(ids) // 2], order[len(ids) // 2 :]
            pool_ids = [ids[i] for i in pool]
            said = labelled(gold[pool], len(names), right, rng)
            doubt = worth(pool_ids, corpus.questions, corpus.answers, None)
            value = worth(pool_ids, corpus.questions, corpus.answers, nearest(vectors[pool], N_NEIGHBOURS))
            places = {
                "none": np.array([], dtype=np.int64),
                "random": rng.permutation(len(pool)),
                "doubt": spread_ranked(doubt, None),
                "ranked": spread_ranked(value, vectors[pool]),
            }
            for queue, chosen in places.items():
                mixed = soft[pool].copy()
                mixed[chosen[: options.labels]] = np.eye(len(names))[said[chosen[: options.labels]]]
                scores[queue].append(macro_f1(read(vectors[pool], mixed, vectors[test]), gold[test]))
        print(f"a reader that is right on {right:.0%} of {options.labels} texts of {len(ids) // 2}:")
        base = np.array(scores["random"])
        for queue, values in scores.items():
            gain = np.array(values) - base
            half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            interval = f"[{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
            print(f"  {queue:7} macro-F1 {np.mean(values):.3f}; over random {gain.mean():+.3f} {interval}")


if __name__ == "__main__":
    main()
