"""A task with 77 labels and no gold: candidates, the embedded teacher's soft labels, a student, and what stands beside it.

    python benchmarks/questions/many_labels.py --data DATA [--out out/many_labels] [--paths 1] [--pool 3000] [--threads 2]

DATA holds `banking77`: gzip-compressed JSON lines with text and label. The pool is drawn from the training split, without labels;
the test split is for scores. The task beside this file was written from the names of the labels. A run that is interrupted goes on.
Prints the summary of the labels, and the table of systems, each with 95 % intervals.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from potstill.contract.soft_label import write_soft_labels
from potstill.contract.task import load_task
from potstill.contract.texts import Text, write_texts
from potstill.trainer.evaluation.baselines.cross_fit import gold_row

TASK = Path(__file__).resolve().parent / "banking_intents.toml"
N_GOLD = 10  # texts of each label, for the student that people labelled


def main() -> None:
    """Run what is not done yet, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/many_labels"))
    parser.add_argument("--paths", type=int, default=1, help="paths of each text")
    parser.add_argument("--pool", type=int, default=3000, help="unlabelled texts")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    train, test = (split(options.data, name) for name in ("train", "test"))
    random.Random(77).shuffle(train)
    pool, gold = out / "pool.jsonl", out / "test.jsonl"
    pool.write_bytes(write_texts([Text(text.text, text.id) for text in train[: options.pool]]))
    gold.write_bytes(write_texts(test))
    threads = ["--threads", options.threads]
    paths = ["--mode", "direct", "--variants", max(2, options.paths), "--paths", options.paths]
    run("label", TASK, pool, out / "labels", "--gold", gold, *paths, *threads)
    print(run("labels", "summary", out / "labels" / "labels.db"))
    labels = out / "labels" / "soft_labels.parquet"
    if not (out / "student").exists():
        print(run("train", TASK, labels, out / "student", *threads))
    if not (out / "student_of_gold").exists():
        few = few_of_each(train, N_GOLD)
        write_soft_labels(out / "few.jsonl", [gold_row(text, load_task(TASK)) for text in few])
        print(run("train", TASK, out / "few.jsonl", out / "student_of_gold", *threads))
    teacher = out / "labels" / "gold_labels.parquet"
    beside = ["--teacher", teacher, "--soft-labels", labels, "--baseline", "tfidf"]
    print(run("evaluate", out / "student", gold, *beside))
    print(f"a student of {N_GOLD} gold texts of each label:")
    print(run("evaluate", out / "student_of_gold", gold))


def split(data: Path, name: str) -> list[Text]:
    """One split of the set, with its labels as gold."""
    with gzip.open(data / "banking77" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Text(row["text"], f"{name}-{i}", gold=row["label"]) for i, row in enumerate(rows)]


def few_of_each(texts: Sequence[Text], n: int) -> list[Text]:
    """The first n texts of every label."""
    taken: dict[str | None, list[Text]] = {}
    for text in texts:
        taken.setdefault(text.gold, []).append(text)
    return [text for own in taken.values() for text in own[:n]]


def run(*arguments: object) -> str:
    """What a command of potstill prints; its progress goes to this program's stderr."""
    command = [sys.executable, "-m", "potstill", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
