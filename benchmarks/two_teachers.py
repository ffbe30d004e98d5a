"""Cost and gain of a second teacher for the uncertain texts, on posts with gold labels; no gold is used before scoring.

    python benchmarks/two_teachers.py DATA [--out out/two_teachers] [--share 0.2 0.4]

DATA holds `reddit_wsb_stance/gold_dev.jsonl.gz`: JSON lines with text and label. Two settings of the embedded model stand in for
a cheap and a better teacher: re-packed to Q8_0 and asked twice a text, re-packed to Q4_0 and asked eight times. The second one is
asked about all texts once, and smaller shares are those of its paths that it would have drawn. Prints a Markdown table: scores with
95 % intervals, cost in tokens a text, and the paired difference to the first teacher alone. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DEFAULTS
from potstill.labeler.aggregation.path_table import PathTable, read_paths
from potstill.labeler.aggregation.soft_labels import distributions
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import label
from potstill.labeler.run.second_teacher import UncertainRule, uncertain_texts
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teachers.opening import Pack, open_local
from potstill.labeler.tuning.comparison import token_cost

ROOT = Path(__file__).resolve().parent.parent
FIRST: tuple[Pack, LabelConfig] = ("Q8_0", LabelConfig(mode="direct", n_paths=2))
SECOND: tuple[Pack, LabelConfig] = ("Q4_0", LabelConfig(mode="direct", n_paths=8))


def main() -> None:
    """Ask both about all texts, then score what each share would have given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/two_teachers"))
    parser.add_argument("--share", type=float, nargs="*", default=[0.1, 0.2, 0.4, 0.6])
    options = parser.parse_args()
    with gzip.open(options.data / "reddit_wsb_stance" / "gold_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [Text(row["text"], str(i), gold=row["label"]) for i, row in enumerate(map(json.loads, file))]
    place = options.out / "labels.db"
    first = ask(texts, place, *FIRST)
    second = ask(texts, place, *SECOND, after=first)
    labels = first.settings.labels
    gold = np.array([labels.index(text.gold or "") for text in texts])
    with LabelStore.read(place) as store:
        table = read_paths(store, second)
        cost = {run.number: token_cost(list(store.paths(run))) / len(texts) for run in (first, second)}
        order = uncertain_texts(store, first, texts, UncertainRule(1.0))
    alone = scored(table, first, texts, table.runs == first.number)
    print(f"{len(texts)} posts, {first.settings.teacher}: first {FIRST[0]}, {FIRST[1].n_paths} direct paths; ", end="")
    print(f"then {SECOND[0]}, {SECOND[1].n_paths} direct paths\n")
    print("| asked | tokens a text | accuracy | macro-F1 | log-loss | macro-F1 over the first alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    show("the first alone", cost[first.number], alone, alone, gold)
    for share in options.share:
        chosen = {text.id for text in order[: round(share * len(order))]}
        inside = np.array([text.id in chosen for text in table.texts])[table.owners]
        both = scored(table, second, texts, (table.runs == first.number) | inside)
        show(f"the second about {share:.0%}", cost[first.number] + share * cost[second.number], both, alone, gold)
    show("both about all", cost[first.number] + cost[second.number], scored(table, second, texts, table.runs > 0), alone, gold)
    show("the second alone", cost[second.number], scored(table, second, texts, table.runs == second.number), alone, gold)


def ask(texts: list[Text], place: Path, pack: Pack, config: LabelConfig, after: Run | None = None) -> Run:
    """Draw the missing paths of all texts."""
    task = load_task(ROOT / "examples" / "market_stance" / "task.toml")
    teacher = open_local("smollm2-135m-instruct", pack=pack, tell=lambda line: print(line, file=sys.stderr))
    try:
        report = label(task, texts, place, teacher, config, after=after)
    finally:
        teacher.close()
    print(f"{pack}: {report.as_text()}", file=sys.stderr)
    return report.run


def scored(table: PathTable, run: Run, texts: list[Text], own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The soft labels of some of the paths, float [N, C]. Args: own, bool [P]."""
    kept = replace(
        table, owners=table.owners[own], variants=table.variants[own], logprobs=table.logprobs[own], mass=table.mass[own],
        n_prompt_tokens=table.n_prompt_tokens[own], n_generated=table.n_generated[own],
    )  # fmt: skip
    probs = distributions(kept, run.settings, DEFAULTS).probs
    rows = {text.id: i for i, text in enumerate(table.texts)}
    return probs[[rows[text.id] for text in texts]]


def show(name: str, cost: float, probs: NDArray[np.float64], alone: NDArray[np.float64], gold: NDArray[np.int64]) -> None:
    """One row of the table."""
    scores = metrics.scores(probs, gold)
    gain = metrics.difference(metrics.macro_f1, probs, alone, gold)
    cells = " | ".join(scores[name].as_text() for name in ("accuracy", "macro_f1", "log_loss"))
    print(f"| {name} | {cost:.0f} | {cells} | {gain.as_text()} |", flush=True)


if __name__ == "__main__":
    main()
