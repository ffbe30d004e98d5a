"""Cost and gain of a second teacher for the uncertain texts, on posts with gold labels; no gold is used before scoring.

    python benchmarks/teacher/two_teachers.py DATA [--out out/two_teachers] [--share 0.2 0.4]

DATA holds `reddit_wsb_stance/gold_dev.jsonl.gz`: JSON lines with text and label. Two settings of the embedded model stand in for
a cheap and a better teacher: re-packed to Q8_0 and asked twice a text, re-packed to Q4_0 and asked four times. The second one is
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
from potstill.labeler.config import LabelConfig, LocalConfig, Pack, UncertainRule
from potstill.labeler.run.label import label
from potstill.labeler.run.second_teacher import uncertain_texts
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.tuning.comparison import token_cost

ROOT = Path(__file__).resolve().parents[2]
FIRST: tuple[Pack, LabelConfig] = ("Q8_0", LabelConfig(mode="direct", n_paths=2))
SECOND: tuple[Pack, LabelConfig] = ("Q4_0", LabelConfig(mode="direct", n_paths=4))


def main() -> None:
    """Ask both about all texts, then score what each share would have given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/two_teachers"))
    parser.add_argument("--posts", type=int, default=600, help="number of posts, the first ones of the file")
    parser.add_argument("--threads", type=int, help="CPU threads; by default measured")
    parser.add_argument("--share", type=float, nargs="*", default=[0.1, 0.2, 0.4, 0.6])
    options = parser.parse_args()
    with gzip.open(options.data / "reddit_wsb_stance" / "gold_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [Text(row["text"], str(i), gold=row["label"]) for i, row in enumerate(map(json.loads, file))][: options.posts]
    place = options.out / "labels.db"
    first = ask(texts, place, options.threads, *FIRST)
    second = ask(texts, place, options.threads, *SECOND, after=first)
    labels = first.settings.labels
    gold = np.array([labels.index(text.gold or "") for text in texts])
    with LabelStore.read(place) as store:
        table = read_paths(store, second)
        ids = {text.id for text in texts}
        table = of_texts(table, ids)
        cost = {
            run.number: token_cost([path for path in store.paths(run) if path.text_id in ids]) / len(texts)
            for run in (first, second)
        }
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


def ask(texts: list[Text], place: Path, threads: int | None, pack: Pack, config: LabelConfig, after: Run | None = None) -> Run:
    """Draw the missing paths of all texts."""
    task = load_task(ROOT / "examples" / "market_stance" / "task.toml")
    local = LocalConfig(threads)
    teacher = open_local("smollm2-135m-instruct", pack=pack, config=local, tell=lambda line: print(line, file=sys.stderr))
    try:
        report = label(task, texts, place, teacher, config, after=after)
    finally:
        teacher.close()
    print(f"{pack}: {report.as_text()}", file=sys.stderr)
    return report.run


def of_texts(table: PathTable, ids: set[str]) -> PathTable:
    """The paths of these texts alone: the store may hold more from another call."""
    kept = [i for i, text in enumerate(table.texts) if text.id in ids]
    places = np.full(len(table.texts), -1)
    places[kept] = np.arange(len(kept))
    own = places[table.owners] >= 0
    return replace(
        of_paths(table, own), texts=[table.texts[i] for i in kept], gold=table.gold[kept], owners=places[table.owners[own]]
    )


def of_paths(table: PathTable, own: NDArray[np.bool_]) -> PathTable:
    """Some of the paths. Args: own, bool [P]."""
    columns = ("owners", "variants", "logprobs", "mass", "n_prompt_tokens", "n_generated")
    return replace(table, **{name: getattr(table, name)[own] for name in columns})


def scored(table: PathTable, run: Run, texts: list[Text], own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The soft labels of some of the paths, float [N, C]. Args: own, bool [P]."""
    probs = distributions(of_paths(table, own), run.settings, DEFAULTS).probs
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
