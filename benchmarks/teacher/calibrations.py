"""Calibration beyond one shift a label: without gold, with a few gold texts, and what gold says of the other texts as a prior.

    python benchmarks/teacher/calibrations.py --data DATA [--out out/text_prior] [--sets NAME ...] [--pool 1500] [--n 800]
        [--also NAME TASK STORE GOLD] [--tables gold decisions ways]

Labels as `text_prior.py` does, two paths a text, into the same folder, so that what it labelled is not labelled again. `--also`
adds a store of one's own, with its task (`-`: the teacher is not asked further) and the gold labels by text id, a JSON file. What
was embedded and asked is kept. Prints three tables in Markdown:

- the affine map fitted on random gold texts: its change of each score on the other gold texts;
- how often gold texts decide against refining by what other texts say;
- the ways of `calibration_ways.py`, which need no gold, alone and refined by what other texts say: of each family the setting with
  the best mean macro-F1 on one half of each set's gold texts, reported on the other half, as means over the sets, with 95 %
  intervals of the differences (bootstrap over texts, paired).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from calibration_ways import NEED_PROBES, Answers, Probes, Way, averaged, families, probed
from text_prior import ROOT, SETS, labelled

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from student_table import Steps

from potstill.contract.scores import metrics
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.gold_calibration import affine
from potstill.labeler.aggregation.other_texts.gold_check import checked
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.other_texts.text_prior import refined
from potstill.labeler.aggregation.path_table import NO_GOLD, PathTable, read_paths
from potstill.labeler.aggregation.soft_labels import SHARE_ROUNDS
from potstill.labeler.store.database import LabelStore

CHOSEN_ON = ("Reddit stance", "Reddit", "PhraseBank", "AG News")  # sets on which the strengths of the map's prior were chosen
NUMBERS = (10, 25, 50, 100, 200)  # gold texts
SCORED = 50  # texts with gold that are left to score at least
N_DRAWS, N_DECISIONS, N_RESAMPLES = 20, 500, 500
MEASURES = {"macro-F1": metrics.macro_f1, "log-loss": metrics.log_loss, "ECE": metrics.ece}
ALL_MEASURES = {"macro-F1": metrics.macro_f1, "accuracy": metrics.accuracy, "log-loss": metrics.log_loss, "ECE": metrics.ece}
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GoldSet:
    """A labelled set with some gold. Axes: N texts, G texts with gold, H width, C labels."""

    name: str
    answers: Answers
    texts: list[Text]
    vectors: NDArray[np.float32]  # [N, H]
    gold: Ints  # [N], or NO_GOLD

    @property
    def known(self) -> Ints:
        """The texts with gold, int [G]."""
        return np.flatnonzero(self.gold != NO_GOLD)

    @property
    def chooses(self) -> NDArray[np.bool_]:
        """Which of the gold texts choose a setting; the others report. bool [G]."""
        return np.random.default_rng(7).permutation(len(self.known)) % 2 == 0

    def labels(self, way: Way, *, with_texts: bool) -> Floats:
        """The gold texts' labels by a way, float [G, C], refined as soft labels are, with shares estimated in turn."""
        shares = np.full(self.answers.table.logprobs.shape[1], 1 / self.answers.table.logprobs.shape[1])
        probs = averaged(self.answers, way, shares)
        if not with_texts:
            return probs[self.known]
        for _ in range(SHARE_ROUNDS):
            shares = refined(probs, np.log(shares), self.vectors, self.texts).mean(axis=0)
            probs = averaged(self.answers, way, shares)
        return refined(probs, np.log(shares), self.vectors, self.texts)[self.known]


def read_set(name: str, store: Path, task: str, gold: dict[str, str], kept: Path) -> GoldSet:
    """Read a store, and embed its texts and ask its probes unless they are kept. Args: task, a file or `-`."""
    with LabelStore.read(store) as opened:
        run = opened.find_run(None)
        table = read_paths(opened, run)
    labels = list(run.settings.labels)
    wanted = np.array([labels.index(gold[text.id]) if text.id in gold else NO_GOLD for text in table.texts])
    kept.mkdir(parents=True, exist_ok=True)
    vectors = kept / f"{name}.npy"
    if not vectors.exists():
        np.save(vectors, TextSpace(DeriveConfig.backbone).vectors(table.texts))
    probes = {} if task == "-" else _kept_probes(kept / f"{name}.npz", ROOT / task, table)
    return GoldSet(name, Answers(table, probes), table.texts, np.load(vectors), wanted)


def _kept_probes(file: Path, task: Path, table: PathTable) -> dict[int, Probes]:
    """The probes of a set, from a file, or asked and written there."""
    names = [field.name for field in fields(Probes)]
    if not file.exists():
        found = probed(task, table)
        np.savez(file, **{f"{variant} {name}": getattr(own, name) for variant, own in found.items() for name in names})
    with np.load(file) as read:
        variants = sorted({int(key.split()[0]) for key in read.files})
        return {variant: Probes(**{name: read[f"{variant} {name}"] for name in names}) for variant in variants}


def without_gold(sets: list[GoldSet]) -> list[str]:
    """The table of ways that need no gold."""
    lines = ["| calibration (setting) | sets | " + " | ".join(MEASURES) + " |", "| --- | --- |" + " --- |" * len(MEASURES)]
    for with_texts in (False, True):
        lines.append(f"| **{'refined by what other texts say' if with_texts else 'paths alone'}** | | | | |")
        first: dict[str, Floats] = {}
        for family, ways in families().items():
            some = [one for one in sets if one.answers.probes or family not in NEED_PROBES]
            if not some:
                continue
            found = {setting: {one.name: one.labels(way, with_texts=with_texts) for one in some} for setting, way in ways.items()}
            best = max(
                found, key=lambda setting, found=found, some=some: _mean(metrics.macro_f1, some, found[setting], chooses=True)
            )
            first = first or found[best]
            print(f"{family}, {with_texts} ...", file=sys.stderr, flush=True)
            cells = [_cell(metric, some, found[best], first) for metric in MEASURES.values()]
            lines.append(f"| {family}{f' ({best})' if best else ''} | {len(some)} | {' | '.join(cells)} |")
    return lines


def _mean(metric: metrics.Metric, sets: list[GoldSet], probs: dict[str, Floats], *, chooses: bool) -> float:
    """Mean over the sets of a metric on one half of their gold texts."""
    values = []
    for one in sets:
        own = one.chooses == chooses
        values.append(metric(probs[one.name][own], one.gold[one.known][own]))
    return float(np.mean(values))


def _cell(metric: metrics.Metric, sets: list[GoldSet], probs: dict[str, Floats], first: dict[str, Floats]) -> str:
    """The metric on the reporting halves, and its difference to the first way there with its interval."""
    value = _mean(metric, sets, probs, chooses=False)
    if probs is first:
        return f"{value:.3f}"
    rng, drawn = np.random.default_rng(0), []
    for _ in range(N_RESAMPLES):
        changes = []
        for one in sets:
            rows = np.flatnonzero(~one.chooses)
            rows = rng.choice(rows, len(rows))
            gold = one.gold[one.known][rows]
            changes.append(metric(probs[one.name][rows], gold) - metric(first[one.name][rows], gold))
        drawn.append(np.mean(changes))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{value:.3f}, {value - _mean(metric, sets, first, chooses=False):+.3f} [{low:+.3f}, {high:+.3f}]"


@dataclass(frozen=True)
class Both:
    """The gold texts' labels as the paths have them, and refined; float [G, C] each."""

    plain: Floats
    refined: Floats
    gold: Ints  # [G]
    ids: list[str]

    def drawn(self, n: int, seed: int) -> tuple[Ints, Ints]:
        """Gold of n random texts alone, int [G], and the other texts, int [G - n]."""
        order = np.random.default_rng(1000 * n + seed).permutation(len(self.gold))
        few = np.full(len(self.gold), NO_GOLD)
        few[order[:n]] = self.gold[order[:n]]
        return few, order[n:]


def with_gold(found: dict[str, Both]) -> list[str]:
    """The table of the affine map: its change of each metric, mean over draws, by set and over the sets."""
    lines = ["| labels | sets | gold texts | " + " | ".join(ALL_MEASURES) + " | most harm to a set's log-loss |"]
    lines.append("| --- | --- | --- |" + " --- |" * (len(ALL_MEASURES) + 1))
    groups = {
        "others": [name for name in found if name not in CHOSEN_ON],
        "chosen on": [name for name in found if name in CHOSEN_ON],
    }
    for kind, (group, names) in product(("plain", "refined"), groups.items()):
        for n in NUMBERS:
            some = {name: found[name] for name in names if len(found[name].gold) >= n + SCORED}
            if not some:
                continue
            changes = np.array([[_changes(both, kind, n, seed) for both in some.values()] for seed in range(N_DRAWS)])
            by_draw = changes.mean(axis=1)  # [draws, measures]
            error = 1.96 * by_draw.std(axis=0, ddof=1) / np.sqrt(N_DRAWS)
            cells = [f"{m:+.3f} ± {e:.3f}" for m, e in zip(by_draw.mean(axis=0), error, strict=True)]
            worst = changes.mean(axis=0)[:, list(ALL_MEASURES).index("log-loss")]
            most = f"{worst.max():+.3f} ({list(some)[int(worst.argmax())]})"
            lines.append(f"| {kind} | {group} ({len(some)}) | {n} | {' | '.join(cells)} | {most} |")
    return lines


def _changes(both: Both, kind: str, n: int, seed: int) -> list[float]:
    """What the affine map of n gold texts does to each measure on the other texts."""
    few, others = both.drawn(n, seed)
    probs: Floats = getattr(both, kind)
    mapped = affine(probs, few, both.ids)
    gold = both.gold[others]
    return [metric(mapped[others], gold) - metric(probs[others], gold) for metric in ALL_MEASURES.values()]


def decisions(found: dict[str, Both]) -> list[str]:
    """The table of decisions: the share of draws in which gold texts keep labels from being refined."""
    numbers = [n for n in NUMBERS if n > NUMBERS[0]]
    lines = ["| set | refined minus plain: macro-F1, accuracy, Brier | " + " | ".join(f"{n} gold texts" for n in numbers) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(numbers))
    for name, both in found.items():
        changes = [
            m(both.refined, both.gold) - m(both.plain, both.gold) for m in (metrics.macro_f1, metrics.accuracy, metrics.brier)
        ]
        cells = []
        for n in numbers:
            verdicts = []
            for seed in range(N_DECISIONS):
                few, _ = both.drawn(n, seed)
                rows = np.flatnonzero(few != NO_GOLD)
                ids = [both.ids[row] for row in rows]
                verdicts.append(checked(both.plain[rows], both.refined[rows], few[rows], ids, lambda probs, _: probs).worse)
            cells.append(f"{np.mean(verdicts):.2f}")
        lines.append(f"| {name} | {', '.join(f'{change:+.3f}' for change in changes)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Label all sets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/text_prior"))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=[name for name in SETS if name != "SST-2"])
    parser.add_argument("--also", nargs=4, action="append", default=[], metavar=("NAME", "TASK", "STORE", "GOLD"))
    parser.add_argument("--pool", type=int, default=1500)
    parser.add_argument("--n", type=int, default=800, help="texts that are scored")
    parser.add_argument("--tables", nargs="*", choices=("gold", "decisions", "ways"), default=["gold", "decisions", "ways"])
    options = parser.parse_args()
    options.paths, kept = 2, options.out.resolve() / "calibrations"
    steps, sets = Steps(options.out.resolve()), []
    for name in options.sets:
        file, gold = labelled(steps, name, options.data, options)
        sets.append(read_set(name, file, SETS[name].task, gold, kept))
    for name, task, store, gold_file in options.also:
        sets.append(read_set(name, Path(store), task, json.loads(Path(gold_file).read_text("utf-8")), kept))
    today = families()["as it is"][""]
    found = {
        one.name: Both(
            one.labels(today, with_texts=False),
            one.labels(today, with_texts=True),
            one.gold[one.known],
            [one.texts[row].id for row in one.known.tolist()],
        )
        for one in sets
    }
    tables = {"gold": lambda: with_gold(found), "decisions": lambda: decisions(found), "ways": lambda: without_gold(sets)}
    for name in options.tables:
        print("\n".join(tables[name]()) + "\n", flush=True)


if __name__ == "__main__":
    main()
