"""What it brings to take what all other texts say as a prior for a text, on sets with gold labels that nobody shows the labeler.

    python benchmarks/teacher/text_prior.py --data DATA [--out out/text_prior] [--sets NAME ...] [--paths 2] [--pool 800] [--n 400]

DATA holds the sets' folders: gzip-compressed JSON lines with text and label. The embedded teacher labels a pool and the texts that
are scored, in mode `direct`; soft labels are derived from the same paths with and without the other texts. Prints a table in
Markdown: accuracy, macro-F1, log-loss and expected calibration error, the paired difference in macro-F1 with its 95 % bootstrap
interval over texts, and both again for random parts of the texts: how many it takes. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gold_sets import reddit_pool, split_of, stance
from student_table import Steps

from potstill.contract.questions.kind_scores import difference_of, kind_metrics, scores_of
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import Surroundings, TextSpace
from potstill.labeler.aggregation.path_table import PathTable, read_paths
from potstill.labeler.aggregation.soft_labels import distributions
from potstill.labeler.store.database import LabelStore, Run

ROOT = Path(__file__).resolve().parent.parent.parent
STANCE_NAMES = {"positive": "bullish", "negative": "bearish"}
METRICS = ("accuracy", "macro_f1", "log_loss", "ece")
PARTS = (100, 200, 400)  # texts
N_DRAWS = 6  # of each part


@dataclass(frozen=True)
class GoldSet:
    """Where a set's texts are from, and the task that they are labelled for."""

    task: str
    scored: Callable[[Path], list[Text]]
    pool: Callable[[Path], list[Text]]
    names: dict[str, str]  # the task's names of the set's labels, where they differ


def _splits(folder: str, task: str, scored: str, names: dict[str, str] | None = None) -> GoldSet:
    """A set with a training split as the pool."""
    return GoldSet(task, split_of(folder, scored), split_of(folder, "train"), names or {})


STANCE = "examples/market_stance/task.toml"
SETS = {
    "Reddit stance": GoldSet(STANCE, stance, lambda data: reddit_pool(data, 5000), {}),
    "PhraseBank": _splits("financial_phrasebank", STANCE, "test", STANCE_NAMES),
    "Twitter news": _splits("twitter_financial_news", STANCE, "test"),
    "AG News": _splits("ag_news", "benchmarks/questions/news_topic.toml", "dev"),
    "TREC": _splits("trec", "benchmarks/questions/question_type.toml", "test"),
    "SST-2": _splits("sst2", "benchmarks/questions/film_review.toml", "dev", {"positive": "yes", "negative": "no"}),
}


def labelled(steps: Steps, name: str, data: Path, options: argparse.Namespace) -> tuple[Path, dict[str, str]]:
    """Label a set's texts. Returns: the label store, and the gold labels by text id."""
    found = SETS[name]
    scored = found.scored(data)[: options.n]
    known = {text.text for text in scored}
    rest = list(dict.fromkeys(text.text for text in found.pool(data) if text.text not in known))
    random.Random(0).shuffle(rest)
    texts = [Text(text.text, f"scored-{i}") for i, text in enumerate(scored)]
    texts += [Text(text, f"pool-{i}") for i, text in enumerate(rest[: options.pool])]
    asked: list[object] = ["--mode", "direct", "--paths", options.paths, "--variants", 8, "--refine", "off"]
    labels = steps.labels(name, ROOT / found.task, texts, asked)
    gold = {f"scored-{i}": found.names.get(text.gold or "", text.gold or "") for i, text in enumerate(scored)}
    return labels.parent / "labels.db", gold


def both(table: PathTable, run: Run, space: TextSpace) -> list[NDArray[np.float64]]:
    """Soft labels without and with the other texts, float [N, C] each."""
    around = Surroundings(vectors=space.vectors(table.texts))
    plain = distributions(table, run.settings, DeriveConfig(refine="off")).probs
    return [plain, distributions(table, run.settings, DeriveConfig(refine="on"), around).probs]


def rows_of(name: str, file: Path, gold: dict[str, str], space: TextSpace) -> list[str]:
    """The lines of one set."""
    with LabelStore.read(file) as store:
        run = store.find_run(None)
        table = read_paths(store, run)
    labels, metrics = list(run.settings.labels), kind_metrics("choice")
    wanted = np.array([labels.index(gold[text.id]) if text.id in gold else -1 for text in table.texts])
    known, n_paths = wanted >= 0, int(table.n_paths.max())
    found = both(table, run, space)
    lines = []
    for way, probs in zip(("paths alone", "with the other texts"), found, strict=True):
        scores = scores_of("choice", probs[known], wanted[known])
        cells = " | ".join(scores[metric].as_text() for metric in METRICS)
        lines.append(f"| {name}, {n_paths} paths | {way} | {len(table.texts)} | {known.sum()} | {cells} |")
    change = difference_of(metrics["macro_f1"], found[1][known], found[0][known], wanted[known])
    lines.append(f"| | difference in macro-F1 | | | {change.as_text()} |")
    for n in PARTS:
        sums = []
        for seed in range(N_DRAWS):
            rows = np.sort(np.random.default_rng(seed).permutation(len(table.texts))[:n])
            own = wanted[rows]
            some = both(table.of_texts(rows), run, space)
            sums.append([metrics["macro_f1"](probs[own >= 0], own[own >= 0]) for probs in some])
        plain, better = np.mean(sums, axis=0)
        lines.append(f"| | of {n} texts, mean macro-F1 of {N_DRAWS} draws | | | {plain:.3f}, {better:.3f} |")
    return lines


def main() -> None:
    """Label all sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/text_prior"))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--paths", type=int, default=2, help="paths for each text")
    parser.add_argument("--pool", type=int, default=800, help="texts that are labelled and not scored")
    parser.add_argument("--n", type=int, default=400, help="texts that are scored")
    options = parser.parse_args()
    steps, space = Steps(options.out.resolve()), TextSpace(DeriveConfig.backbone)
    print("| set | soft labels | texts | scored | accuracy | macro-F1 | log-loss | ECE |\n| --- |" + " --- |" * 7)
    for name in options.sets:
        file, gold = labelled(steps, name, options.data, options)
        for line in rows_of(name, file, gold, space):
            print(line, flush=True)


if __name__ == "__main__":
    main()
