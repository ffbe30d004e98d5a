"""What other sources add to the embedded teacher's labels, on sets with gold labels that no source sees.

    python benchmarks/weak/sources.py DATA [--out out/weak] [--sets reddit phrasebank] [--threads 1]

DATA holds the sets as benchmarks/gold_sets.py reads them; the first 600 texts of each are labelled. The rules stand in the task
files beside this program; they were written from the tasks' guidelines before a gold label was looked at. The teacher is asked two
direct paths a text, re-packed to Q8_0 and then to Q4_0, and stands for two teachers. Prints Markdown tables: every source, then
what each set of sources and each label model makes of them, with 95 % intervals and the paired gain over the best single source
among them; a teacher alone is refined by what other texts say, as the combinations are. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.task import Task, load_task
from potstill.contract.texts import Text, write_texts
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.config import LabelConfig, LocalConfig, Pack
from potstill.labeler.run.label import label
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.weak_supervision.combination import Combination, combined, refined_combination, without_sources
from potstill.labeler.weak_supervision.config import CombineConfig, DawidSkeneConfig
from potstill.labeler.weak_supervision.figures import combination_scores, source_figures
from potstill.labeler.weak_supervision.votes import SourceVotes, VoteTable, source_votes
from potstill.workflows.labels.sources import Gathered, SourceConfig, gathered

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gold_sets import split_of, stance

HERE = Path(__file__).resolve().parent
PACKS: tuple[Pack, Pack] = ("Q8_0", "Q4_0")
ASKED = LabelConfig(mode="direct", n_paths=2)
N_TEXTS = 600
Gold = NDArray[np.int64]  # [N], index of each text's label
PAPER = DawidSkeneConfig(strength=0.0)
MODELS = {
    "majority": CombineConfig(method="majority"),
    "dawid-skene, nothing believed before": CombineConfig(strength=PAPER.strength),
    "dawid-skene": CombineConfig(),
    "snorkel": CombineConfig(method="snorkel"),
}


@dataclass(frozen=True)
class GoldSet:
    """Texts with gold labels, and the task they are labelled for."""

    task: str  # file beside this program
    read: Callable[[Path], list[Text]]


def _both_splits(folder: str) -> Callable[[Path], list[Text]]:
    """A reader of a set's test and development splits."""
    return lambda data: list(chain.from_iterable(split_of(folder, split)(data) for split in ("test", "dev")))


SETS = {
    "reddit": GoldSet("reddit_stance.toml", stance),
    "phrasebank": GoldSet("company_news.toml", _both_splits("financial_phrasebank")),
}


def main() -> None:
    """Label every set with both teachers, then print its tables."""
    options = arguments(__doc__ or "")
    for name in options.sets:
        task = load_task(HERE / SETS[name].task)
        different = {text.text: text.gold for text in reversed(SETS[name].read(options.data))}
        pairs = list(reversed(different.items()))[:N_TEXTS]
        texts = [Text(text, f"{name}-{i}", gold=gold) for i, (text, gold) in enumerate(pairs)]
        for pack in PACKS:
            ask(task, texts, options.out / f"{name}_{pack}" / "labels.db", pack, options.threads)
        report(name, texts, options.out)


def arguments(description: str) -> argparse.Namespace:
    """The arguments of both programs here. Args: description, of the program."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/weak"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--threads", type=int, help="CPU threads; by default measured")
    return parser.parse_args()


def ask(task: Task, texts: list[Text], place: Path, pack: Pack, threads: int | None) -> None:
    """Draw the missing paths of all texts; their gold labels do not get into the store."""
    local = LocalConfig(threads)
    teacher = open_local("smollm2-135m-instruct", pack=pack, config=local, tell=lambda line: print(line, file=sys.stderr))
    try:
        bare = [Text(text.text, text.id) for text in texts]
        print(f"{place.parent.name}: {label(task, bare, place, teacher, ASKED).as_text()}", file=sys.stderr)
    finally:
        teacher.close()


def report(name: str, texts: list[Text], out: Path) -> None:
    """Print the tables of one set."""
    path = HERE / SETS[name].task
    task, space = load_task(path), TextSpace(DeriveConfig.backbone)
    gold_file = out / f"{name}_gold.jsonl"
    gold_file.write_bytes(write_texts(texts))
    stores = (f"{PACKS[1]}={out / f'{name}_{PACKS[1]}' / 'labels.db'}",)
    sources = SourceConfig(stores=stores, prototypes="examples", gold=str(gold_file))
    found = gathered(task, path, out / f"{name}_{PACKS[0]}" / "labels.db", sources, DeriveConfig(), space)
    votes = found.votes
    gold = np.array([task.label_names.index(text.gold or "") for text in votes.texts])
    shares = ", ".join(f"{label} {share:.0%}" for label, share in zip(votes.labels, np.bincount(gold) / len(gold), strict=True))
    print(f"\n### {name}: {len(gold)} texts ({shares})\n")
    print("| source | votes for | coverage | conflict | estimated accuracy | accuracy on gold |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in source_figures(votes, made(votes, CombineConfig(), space), gold):
        labels = row.labels[0] if len(row.labels) == 1 else "all"
        shown = PACKS[0] if row.name == "teacher" else row.name
        figures = f"{row.coverage:.1%} | {row.conflict:.1%} | {row.estimated_accuracy:.2f}"
        print(f"| {shown} | {labels} | {figures} | {row.accuracy.as_text() if row.accuracy else '-'} |")
    print("\n| sources | label model | accuracy | macro-F1 | log-loss | macro-F1 over the best single source |")
    print("| --- | --- | --- | --- | --- | --- |")
    alone = {teacher: alone_votes(teacher, found) for teacher in found.alone}
    rules = tuple(source.name for source in votes.sources if source.kind == "rule")
    two, one, protos = ("teacher", PACKS[1]), (PACKS[1],), ("prototypes",)
    for what, left_out in {
        f"{PACKS[0]}": (*one, *rules, *protos),
        f"{PACKS[1]}": ("teacher", *rules, *protos),
        "rules": (*two, *protos),
        f"{PACKS[0]}, rules": (*one, *protos),
        f"{PACKS[1]}, rules": ("teacher", *protos),
        f"{PACKS[1]}, rules, prototypes": ("teacher",),
        f"{PACKS[0]}, {PACKS[1]}": (*rules, *protos),
        f"{PACKS[0]}, {PACKS[1]}, rules": protos,
        f"{PACKS[0]}, {PACKS[1]}, rules, prototypes": (),
    }.items():
        kept = without_sources(votes, left_out)
        for model, config in MODELS.items():
            if (len(kept.sources) == 1 and model != "majority") or (config.method == "snorkel" and len(kept.sources) < 3):
                continue
            show(what, model, kept, made(kept, config, space), gold, alone)


def alone_votes(teacher: str, found: Gathered) -> SourceVotes:
    """What a teacher says alone, refined by what other texts say, as a combination is."""
    rows = {text_id: dict(row.probs) for text_id, row in found.alone[teacher].items()}
    return source_votes(teacher, "teacher", found.votes.texts, found.votes.labels, rows)


def made(votes: VoteTable, config: CombineConfig, space: TextSpace) -> Combination:
    """The combination, refined by what other texts say."""
    return refined_combination(combined(votes, config), votes.texts, space.vectors(votes.texts))


def show(what: str, model: str, votes: VoteTable, made_of: Combination, gold: Gold, alone: dict[str, SourceVotes]) -> None:
    """One row of the table."""
    scores = combination_scores(votes, made_of, gold, alone)
    if scores is None:
        return
    if len(votes.sources) == 1:
        print(f"| {what} | - | - | {scores.best.macro_f1.as_text()} | - | - |", flush=True)
        return
    cells = " | ".join(score.as_text() for score in (scores.accuracy, scores.macro_f1, scores.log_loss))
    print(f"| {what} | {model} | {cells} | {scores.best.gain.as_text()} ({scores.best.name}) |", flush=True)


if __name__ == "__main__":
    main()
