"""What a student gains where its soft labels were refined by what other texts say: the same paths, with and without.

    python benchmarks/teacher/refined_students.py --data DATA [--out out/text_prior] [--sets NAME ...] [--paths 2] [--seeds 3]

Labels as `text_prior.py` does, into the same folder, so that what it labelled is not labelled again. Students with default
settings learn from the pool's labels, derived with and without the other texts, by several seeds; teacher and students are
scored on texts with gold that no student saw. Prints a table in Markdown: macro-F1 and accuracy, mean over seeds with 95 %
bootstrap intervals over texts; the standard deviation over seeds; and paired differences.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from text_prior import ROOT, SETS, labelled

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from student_table import Steps

from potstill.contract.scores.metrics import Metric, accuracy, ece, macro_f1
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task, load_task
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore
from potstill.trainer.config import TrainConfig
from potstill.trainer.training.student import train_in_memory

N_RESAMPLES = 1000
WAYS = ("off", "on")  # of refining
NAMES = {"off": "paths alone", "on": "with the other texts"}
Floats = NDArray[np.float64]


def main() -> None:
    """Label, train, score all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/text_prior"))
    parser.add_argument(
        "--sets", nargs="*", choices=SETS, default=["Reddit stance", "PhraseBank", "Twitter news", "AG News", "TREC"]
    )
    parser.add_argument("--paths", type=int, default=2, help="paths for each text")
    parser.add_argument("--pool", type=int, default=1500, help="texts that students learn from")
    parser.add_argument("--n", type=int, default=600, help="texts that are scored")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print("| set | system | soft labels | n | macro-F1 | accuracy | ECE | deviation over seeds |\n| --- |" + " --- |" * 7)
    for name in options.sets:
        file, gold = labelled(Steps(options.out.resolve()), name, options.data, options)
        for line in rows_of(
            name, load_task(ROOT / SETS[name].task), (file, gold), options.seeds, TrainConfig(threads=options.threads)
        ):
            print(line, flush=True)


def rows_of(name: str, task: Task, about: tuple[Path, dict[str, str]], n_seeds: int, config: TrainConfig) -> list[str]:
    """The lines of one set. Args: about, (label store, gold label of the texts that are scored, by id)."""
    file, gold = about
    space, labels = TextSpace(DeriveConfig.backbone), task.label_names
    teacher: dict[str, list[Floats]] = {}
    student: dict[str, list[Floats]] = {}
    wanted = np.array([], dtype=np.int64)
    for way in WAYS:
        with LabelStore.read(file) as store:
            rows = derive(store, store.find_run(None), DeriveConfig(refine="off" if way == "off" else "on"), space=space).rows
        scored = [row for row in rows if row.id in gold]
        wanted = np.array([labels.index(gold[row.id]) for row in scored])
        teacher[way] = [np.array([[row.probs[label] for label in labels] for row in scored])]
        pool = [row for row in rows if row.id not in gold]
        student[way] = [answers(task, pool, scored, config, seed) for seed in range(n_seeds)]
    lines = [
        row_of(name, who, way, said[way], wanted) for who, said in (("teacher", teacher), ("student", student)) for way in WAYS
    ]
    lines.append(f"| | student's gain by the other texts | | | {difference(student['on'], student['off'], wanted)} |")
    lines.append(f"| | student minus teacher, both with them | | | {difference(student['on'], teacher['on'], wanted)} |")
    return lines


def answers(task: Task, pool: list[SoftLabel], scored: list[SoftLabel], config: TrainConfig, seed: int) -> Floats:
    """What a student of the pool says of the texts that are scored, float [N, C]."""
    made = train_in_memory("soft labels", pool, task, TrainConfig(threads=config.threads, seed=seed))
    return made.probs([(row.text, row.target) for row in scored])


def row_of(name: str, who: str, way: str, said: Sequence[Floats], wanted: NDArray[np.int64]) -> str:
    """A line of the table."""
    values = [macro_f1(probs, wanted) for probs in said]
    cells = [interval(metric, said, wanted) for metric in (macro_f1, accuracy)]
    spread = f"{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    error = np.mean([ece(probs, wanted) for probs in said])
    return f"| {name} | {who} | {NAMES[way]} | {len(wanted)} | {' | '.join(cells)} | {error:.3f} | {spread} |"


def interval(score: Metric, said: Sequence[Floats], wanted: NDArray[np.int64]) -> str:
    """The mean over seeds and its interval over texts."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(wanted), len(wanted)) for _ in range(N_RESAMPLES)]
    low, high = np.percentile([np.mean([score(probs[draw], wanted[draw]) for probs in said]) for draw in draws], [2.5, 97.5])
    return f"{np.mean([score(probs, wanted) for probs in said]):.3f} [{low:.3f}, {high:.3f}]"


def difference(first: Sequence[Floats], second: Sequence[Floats], wanted: NDArray[np.int64]) -> str:
    """Macro-F1 of the first minus that of the second, means over seeds, paired over texts."""

    def gap(draw: NDArray[np.int64]) -> float:
        means = [np.mean([macro_f1(probs[draw], wanted[draw]) for probs in side]) for side in (first, second)]
        return float(means[0] - means[1])

    rng = np.random.default_rng(0)
    low, high = np.percentile([gap(rng.integers(0, len(wanted), len(wanted))) for _ in range(N_RESAMPLES)], [2.5, 97.5])
    return f"{gap(np.arange(len(wanted))):+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
