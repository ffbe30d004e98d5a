"""How much of a score is luck: the same texts and teacher with other prompts, other weight types and other training seeds.

    python benchmarks/teacher/luck.py --data DATA [--out out/luck] [--sets NAME ...] [--n 300] [--prompts 5] [--students 3]

The embedded teacher labels N texts of each set once for every pair of a prompt variant (which worked examples, in which order) and
a weight type, in mode `direct`; no gold is shown to it. Weight types stand in for the kernels of other processors, which round
differently, too. Macro-F1 over the pairs is taken apart as a two-way random-effects analysis of variance does (one score a cell, so
what the two do together and what is left are one component): the standard deviation that comes from prompts, from weights, from the
rest. The standard deviation from the choice of the texts is that of a bootstrap over texts, mean over the pairs. With and without
what the other texts say. `--students K` trains our own student K times on refined labels of `--pool` further texts, and takes the
deviation over its seeds. Prints a Markdown table. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from refined_students import answers
from text_prior import ROOT, SETS, both

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from student_table import Steps

from potstill.contract.scores.metrics import macro_f1
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore
from potstill.trainer.config import TrainConfig

WEIGHTS = ("Q4_0", "as-is", "Q8_0")  # as-is: Q4_1, as the embedded teacher is shipped
WAYS = ("paths alone", "with the other texts")
N_RESAMPLES = 500
Floats = NDArray[np.float64]


def main() -> None:
    """Label, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/luck"))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=["Reddit stance", "PhraseBank", "AG News", "TREC"])
    parser.add_argument("--n", type=int, default=300, help="texts that are scored")
    parser.add_argument("--pool", type=int, default=300, help="further texts, which students learn from")
    parser.add_argument("--prompts", type=int, default=5, help="prompt variants, each by itself")
    parser.add_argument("--students", type=int, default=3, help="seeds of training; 0 trains none")
    options = parser.parse_args()
    steps, space = Steps(options.out.resolve()), TextSpace(DeriveConfig.backbone)
    print("| set | soft labels | n | mean | least, most | texts | prompts | weights | rest | training |\n|" + " --- |" * 10)
    for name in options.sets:
        for line in rows_of(name, steps, space, options):
            print(line, flush=True)


def rows_of(name: str, steps: Steps, space: TextSpace, options: argparse.Namespace) -> list[str]:
    """The lines of one set."""
    scored = SETS[name].scored(options.data)[: options.n]
    texts = [Text(text.text, f"scored-{i}") for i, text in enumerate(scored)]
    gold = {f"scored-{i}": SETS[name].names.get(text.gold or "", text.gold or "") for i, text in enumerate(scored)}
    by_weights = [said(name, steps, space, texts, options.prompts, pack) for pack in WEIGHTS]
    cells = [[found[variant] for found in by_weights] for variant in range(options.prompts)]
    labels = load_task(ROOT / SETS[name].task).label_names
    wanted = np.array([labels.index(gold[text.id]) for text in texts])
    trained = deviation_of_training(name, steps, space, options, gold) if options.students else ""
    lines = []
    for number, way in enumerate(WAYS):
        probs = [[cell[number] for cell in row] for row in cells]
        scores = np.array([[macro_f1(one, wanted) for one in row] for row in probs])
        prompts, weights, rest = components(scores)
        sample = np.mean([deviation_over_texts(one, wanted) for row in probs for one in row])
        found = f"{scores.mean():.3f} | {scores.min():.3f}, {scores.max():.3f} | {sample:.3f} | {prompts:.3f} | {weights:.3f}"
        lines.append(
            f"| {name if not number else ''} | {way} | {len(wanted)} | {found} | {rest:.3f} | {trained if number else ''} |"
        )
    return lines


def said(name: str, steps: Steps, space: TextSpace, texts: list[Text], n_prompts: int, pack: str) -> list[list[Floats]]:
    """What the teacher says of the texts with one weight type: for each prompt float [N, C] without and with the other texts."""
    file = labelled(f"{name} {pack}", name, steps, texts, n_prompts, pack)
    with LabelStore.read(file) as store:
        run = store.find_run(None)
        table = read_paths(store, run)
    at = {text.id: row for row, text in enumerate(table.texts)}
    order = [at[text.id] for text in texts]
    return [[probs[order] for probs in both(table.of_variant(variant), run, space)] for variant in range(n_prompts)]


def labelled(key: str, name: str, steps: Steps, texts: list[Text], n_paths: int, pack: str) -> Path:
    """The label store of some texts."""
    asked: list[object] = ["--mode", "direct", "--paths", n_paths, "--variants", n_paths, "--refine", "off"]
    asked += ["--pack", pack]
    return steps.labels(key, ROOT / SETS[name].task, texts, asked).parent / "labels.db"


def components(scores: Floats) -> tuple[float, float, float]:
    """Standard deviations of scores [rows, columns] from rows, columns and the rest; a negative variance counts as 0."""
    n_rows, n_columns = scores.shape
    rows, columns, mean = scores.mean(axis=1), scores.mean(axis=0), scores.mean()
    rest = ((scores - rows[:, None] - columns + mean) ** 2).sum() / ((n_rows - 1) * (n_columns - 1))
    of_rows = (rows.var(ddof=1) * n_columns - rest) / n_columns
    of_columns = (columns.var(ddof=1) * n_rows - rest) / n_rows
    return tuple(float(np.sqrt(max(part, 0.0))) for part in (of_rows, of_columns, rest))  # type: ignore[return-value]  # three


def deviation_over_texts(probs: Floats, wanted: NDArray[np.int64]) -> float:
    """The standard deviation of macro-F1 over draws of the texts."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(wanted), len(wanted)) for _ in range(N_RESAMPLES))
    return float(np.std([macro_f1(probs[draw], wanted[draw]) for draw in draws]))


def deviation_of_training(name: str, steps: Steps, space: TextSpace, options: argparse.Namespace, gold: dict[str, str]) -> str:
    """The standard deviation of a student's macro-F1 over seeds of training, with their mean."""
    known = {text.text for text in SETS[name].scored(options.data)}
    pool = list(dict.fromkeys(text.text for text in SETS[name].pool(options.data) if text.text not in known))[: options.pool]
    scored = SETS[name].scored(options.data)[: options.n]
    texts = [Text(text, f"pool-{i}") for i, text in enumerate(pool)]
    texts += [Text(text.text, f"scored-{i}") for i, text in enumerate(scored)]
    task = load_task(ROOT / SETS[name].task)
    file = labelled(f"{name} pool", name, steps, texts, 1, WEIGHTS[0])
    with LabelStore.read(file) as store:
        rows = derive(store, store.find_run(None), DeriveConfig(refine="on"), space=space).rows
    asked = [row for row in rows if row.id in gold]
    wanted = np.array([task.label_names.index(gold[row.id]) for row in asked])
    learned = [row for row in rows if row.id not in gold]
    found = [macro_f1(answers(task, learned, asked, TrainConfig(threads=1), seed), wanted) for seed in range(options.students)]
    return f"{np.std(found, ddof=1):.3f} (mean {np.mean(found):.3f})"


if __name__ == "__main__":
    main()
