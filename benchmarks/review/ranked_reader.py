"""What 200 labels of a scripted reader are worth: from the ranked queue of `potstill review` and from the random one, by the way
in which `potstill train --use-gold` takes them.

    python benchmarks/review/ranked_reader.py news.toml labels.db gold.jsonl --labels 200
    python benchmarks/review/ranked_reader.py news.toml labels.db gold.jsonl --student encoder --splits 5 --save scores.jsonl

The texts of a label store that have gold are split into a pool and a test half. The reader labels 200 texts of the pool and is
right as often as people agree (70 %), else it says one of the other labels at random. Its labels take the place of the teacher's,
join them or are weighed against them, as `--gold-as` does, by an estimate of how often the reader is right or by the truth. A
student learns from all the pool, and is scored by macro-F1 on the test half: a small one, logistic regression over the embeddings
of the texts, or our own, trained as `potstill train` does, which holds 15 % of the pool out. All queues and ways are measured on
the same splits with the same reader, so differences are paired.
With --save a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from sklearn.linear_model import LogisticRegression  # noqa: E402

from potstill.contract.questions.questionnaire import load_any_task  # noqa: E402
from potstill.contract.scores.metrics import macro_f1  # noqa: E402
from potstill.contract.soft_label import SoftLabel  # noqa: E402
from potstill.contract.task import Task  # noqa: E402
from potstill.contract.texts import Text, read_texts  # noqa: E402
from potstill.labeler.aggregation.other_texts.smoothing import nearest  # noqa: E402
from potstill.labeler.aggregation.soft_labels import derive  # noqa: E402
from potstill.labeler.embeddings import embeddings  # noqa: E402
from potstill.labeler.store.database import LabelStore  # noqa: E402
from potstill.models.catalog import find_backbone  # noqa: E402
from potstill.review.corpus.texts import Corpus, read_corpus  # noqa: E402
from potstill.review.queue.spread import spread_ranked  # noqa: E402
from potstill.review.queue.worth import worth  # noqa: E402
from potstill.trainer.config import GOLD_USES, RECIPES, TrainConfig  # noqa: E402
from potstill.trainer.data.gold_labels import GoldLabels, labels_with_gold  # noqa: E402
from potstill.trainer.data.targets import target_matrix  # noqa: E402
from potstill.trainer.training.student import train_in_memory  # noqa: E402
from potstill.workflows.people.ranking import N_NEIGHBOURS  # noqa: E402

MOST_RIGHT = 0.99  # nobody states that people are always right
QUEUES = ("random", "doubt", "ranked")  # doubt: the teacher's doubt alone, as without torch
WAYS = (*GOLD_USES, "stated")  # stated: weighed, by how often the reader really is right
NO_LABELS = ("none", "teacher")  # the row of a student without labels of people: (queue, way)


@dataclass(frozen=True)
class Bench:
    """The texts with gold, N of them, and everything that all splits share."""

    task: Task
    corpus: Corpus
    rows: list[SoftLabel]  # [N]
    gold: np.ndarray  # int [N]
    vectors: np.ndarray  # float [N, H]
    gold_file: Path  # its digest goes into the record of what was trained on

    @property
    def names(self) -> list[str]:
        """The labels in output order."""
        return self.task.label_names


def read_bench(task_file: Path, store: Path, gold_file: Path) -> Bench:
    """Read a store's soft labels, and the gold of its texts."""
    task = load_any_task(task_file)
    if not isinstance(task, Task):
        raise SystemExit(f"{task_file}: asks several questions; this benchmark takes a task of one choice")
    gold_of = {text.id: text.gold for text in read_texts(gold_file, labels=task.label_names, gold=True).texts}
    with LabelStore.read(store) as opened:
        rows = [row for row in derive(opened, opened.find_run(None)).rows if row.id in gold_of]
    vectors = embeddings([Text(row.text, row.id, row.target) for row in rows], find_backbone("all-minilm-l6-v2").path)
    gold = np.array([task.label_names.index(gold_of[row.id]) for row in rows])
    return Bench(task, read_corpus(store, task), rows, gold, vectors, gold_file)


def regression(bench: Bench, rows: Sequence[SoftLabel], pool: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The small student's probabilities for the test texts; each label counts by its probability."""
    soft, vectors = target_matrix(rows, bench.names), bench.vectors[pool]
    n, n_labels = soft.shape
    student = LogisticRegression(C=10.0, max_iter=500)
    student.fit(np.tile(vectors, (n_labels, 1)), np.repeat(np.arange(n_labels), n), sample_weight=soft.T.ravel() + 1e-6)
    return np.asarray(student.predict_proba(bench.vectors[test]))


def own_student(bench: Bench, rows: Sequence[SoftLabel], test: np.ndarray, config: TrainConfig) -> np.ndarray:
    """Our own student's probabilities for the test texts."""
    student = train_in_memory(str(bench.corpus.path), list(rows), bench.task, config)
    return student.probs([(bench.rows[i].text, bench.rows[i].target) for i in test])


def labelled(gold: np.ndarray, n_labels: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """What the reader says of each text, int [N]."""
    wrong = (gold + rng.integers(1, n_labels, len(gold))) % n_labels
    return np.where(rng.random(len(gold)) < right, gold, wrong)


def score(bench: Bench, options: argparse.Namespace, right: float, seed: int, queue: str, way: str) -> dict[str, float]:
    """Macro-F1 of a student on one split, and how often the reader was taken to be right (0 where nobody asked)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(bench.rows))
    pool, test = order[: len(order) // 2], order[len(order) // 2 :]
    rows, said = [bench.rows[i] for i in pool], labelled(bench.gold[pool], len(bench.names), right, rng)
    at_random, ids = rng.permutation(len(pool)), [row.id for row in rows]
    own = options.student != "regression"
    taken = 0.0
    if queue != NO_LABELS[0]:
        near = nearest(bench.vectors[pool], N_NEIGHBOURS) if queue == "ranked" else None
        chosen = at_random
        if queue != "random":
            value = worth(ids, bench.corpus.questions, bench.corpus.answers, near)
            chosen = spread_ranked(value, bench.vectors[pool] if queue == "ranked" else None)
        texts = [Text(rows[i].text, ids[i], rows[i].target) for i in chosen[: options.labels]]
        given = [{"": [bench.names[said[i]]]} for i in chosen[: options.labels]]
        known = min(right, MOST_RIGHT) if way == "stated" else None
        gold = GoldLabels(bench.gold_file, texts, given, "weigh" if known else way, known)
        rows, _, used = labels_with_gold(rows, gold, TrainConfig.validation_share if own else 0.0)
        taken = used.right[""].share if used.right else 0.0
    if own:
        config = TrainConfig(family=options.student, threads=1, seed=seed, max_tokens=options.max_tokens)
        probs = own_student(bench, rows, test, config)
    else:
        probs = regression(bench, rows, pool, test)
    return {"macro_f1": macro_f1(probs, bench.gold[test]), "taken": taken}


def main() -> None:
    """Print macro-F1 by way and queue, with paired differences from the random queue and from labels that replace."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("task", "store", "gold"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--student", choices=("regression", *RECIPES), default="regression")
    parser.add_argument("--max-tokens", type=int, default=TrainConfig.max_tokens, help="of our own student")
    parser.add_argument("--right", type=float, nargs="+", default=[0.7, 1.0], help="how often the reader is right")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--queues", nargs="+", choices=QUEUES, default=list(QUEUES))
    parser.add_argument("--save", type=Path, help="JSON lines of scores, which are not measured again")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long, to go on with --save")
    options = parser.parse_args()
    bench, ends = read_bench(options.task, options.store, options.gold), time.monotonic() + 60 * options.minutes
    found = {}
    save = options.save or Path(tempfile.mkstemp(suffix=".jsonl")[1])
    if save.exists():
        for line in save.read_text().splitlines():
            key, value = json.loads(line)
            found[tuple(key)] = value
    wanted = [NO_LABELS, *((queue, way) for way in options.ways for queue in options.queues)]
    with save.open("a") as file:
        for seed in range(options.splits):
            for right in options.right:
                for queue, way in wanted:
                    key = (options.student, right if queue != NO_LABELS[0] else 0.0, seed, queue, way)
                    if key in found:
                        continue
                    if time.monotonic() > ends:
                        raise SystemExit(f"stopped after {len(found)} scores; the same command goes on")
                    found[key] = score(bench, options, right, seed, queue, way)
                    file.write(json.dumps([key, found[key]]) + "\n")
                    file.flush()
    show(bench, options, found)


def show(bench: Bench, options: argparse.Namespace, found: dict) -> None:
    """Print the table."""
    right_share = np.mean([row.majority == bench.names[gold] for row, gold in zip(bench.rows, bench.gold, strict=True)])
    best = np.mean(target_matrix(bench.rows, bench.names).argmax(axis=1) == bench.gold)
    print(f"{len(bench.rows)} texts; the teacher is right on {best:.3f} of them (by its votes on {right_share:.3f})")

    def of(right: float, queue: str, way: str, what: str = "macro_f1") -> np.ndarray:
        right = right if queue != NO_LABELS[0] else 0.0
        return np.array([found[options.student, right, seed, queue, way][what] for seed in range(options.splits)])

    for right in options.right:
        print(f"a reader that is right on {right:.0%} of {options.labels} texts of {len(bench.rows) // 2}; {options.student}")
        none = of(right, *NO_LABELS)
        print(f"  no labels         macro-F1 {none.mean():.3f}")
        for way in options.ways:
            for queue in options.queues:
                values = of(right, queue, way)
                line = f"  {way:8} {queue:7}  macro-F1 {values.mean():.3f}; over none {_paired(values - none)}"
                if queue != "random" and "random" in options.queues:
                    line += f"; over random {_paired(values - of(right, 'random', way))}"
                if way != "replace" and "replace" in options.ways:
                    line += f"; over replace {_paired(values - of(right, queue, 'replace'))}"
                if way == "weigh":
                    line += f"; taken to be right on {of(right, queue, way, 'taken').mean():.2f}"
                print(line)


def _paired(gains: np.ndarray) -> str:
    """Mean with its 95 % interval over splits."""
    half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else float("nan")
    return f"{gains.mean():+.3f} [{gains.mean() - half:+.3f}, {gains.mean() + half:+.3f}]"


if __name__ == "__main__":
    main()
