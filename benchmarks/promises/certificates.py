"""How often a stated loss, precision, accuracy, share or coverage is exceeded on texts to come, and what a bound costs: real sets.

    python benchmarks/promises/certificates.py DATA [--sets ag_news trec] [--splits 300] [--gold 400] [--cache FOLDER]

Students stand in: logistic regression on 500 texts' MiniLM embeddings, and on their character n-grams as the fast one of a
cascade. Both answer up to 5,000 other texts of a set. These are the texts to come: gold texts are drawn from them again and again,
with replacement, so that every draw is a sample of exactly these texts, and what is true of them is known, not estimated. As
`re-split` gold texts are drawn without replacement, and what was promised is held against the rest. A rest is itself a sample: it
misses what is true of all a little oftener. Beside each bound stands the point rule. DATA holds a folder per set: `*.jsonl.gz` of
`text` and `label`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from potstill.contract.scores.bounds import Promise, Rule, tail
from potstill.contract.scores.metrics import macro_f1
from potstill.contract.scores.switches import Answers, certify_switches, for_reference, share_at_least
from potstill.contract.texts import Text
from potstill.labeler.embeddings import embeddings
from potstill.models.catalog import find_backbone
from potstill.serve.offline.cascade_threshold import CascadeProbs, cascade_loss, certified_threshold, choose_threshold, mixed
from potstill.trainer.calibration.label_sets import fit_label_sets
from potstill.trainer.calibration.thresholds import fit_thresholds, lowest_threshold, wilson

SETS = ("financial_phrasebank", "ag_news", "trec", "sst2", "twitter_financial_news")
N_TRAIN, N_ANSWERED = 500, 5000
PROMISE, POINT = Promise(), Promise("point")
COVERAGE, MAX_DISAGREEMENT, MAX_LOSS = 0.9, 0.05, 0.03
N_POINT = 100  # splits of the point rule, which is slow with macro-F1


@dataclass(frozen=True)
class Population:
    """What two students answer to the texts of a set that neither was trained on."""

    fast: NDArray[np.float64]  # [N, C]
    slow: NDArray[np.float64]  # [N, C]
    gold: NDArray[np.int64]  # [N]

    def at(self, rows: NDArray[np.int64]) -> Population:
        """Some of the texts."""
        return Population(self.fast[rows], self.slow[rows], self.gold[rows])

    @property
    def top(self) -> NDArray[np.float64]:
        """Probability of the slow student's answers, [N]."""
        return self.slow.max(axis=1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the slow student is right, [N]."""
        return np.asarray(self.slow.argmax(axis=1) == self.gold)

    def cascade(self, gold: bool) -> CascadeProbs:
        """Both students' answers, with gold labels or without."""
        return CascadeProbs(self.fast, self.slow, self.gold if gold else None)


def population(folder: Path, cache: Path | None) -> Population:
    """The answers to a set; read from the cache if they are there."""
    place = None if cache is None else cache / f"{folder.name}.npz"
    if place is not None and place.is_file():
        return Population(**np.load(place))
    lines = [line for file in sorted(folder.glob("*.jsonl.gz")) for line in gzip.decompress(file.read_bytes()).splitlines()]
    rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    label_of: dict[str, str] = {}  # each text once
    for row in rows:
        if row.get("label") is not None:
            label_of.setdefault(row["text"], str(row["label"]))
    texts = list(label_of)[: N_TRAIN + N_ANSWERED]
    labels = np.array([label_of[text] for text in texts])
    vectors = embeddings([Text(text, str(i)) for i, text in enumerate(texts)], find_backbone("all-minilm-l6-v2").path)
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit(texts[:N_TRAIN])
    fast, slow = (
        LogisticRegression(C=10, max_iter=300).fit(features[:N_TRAIN], labels[:N_TRAIN])
        for features in (grams.transform(texts[:N_TRAIN]), vectors)
    )
    known = np.isin(labels[N_TRAIN:], slow.classes_)
    found = Population(
        fast.predict_proba(grams.transform(texts[N_TRAIN:]))[known],
        slow.predict_proba(vectors[N_TRAIN:])[known],
        np.searchsorted(slow.classes_, labels[N_TRAIN:][known]),
    )
    if place is not None:
        np.savez(place, fast=found.fast, slow=found.slow, gold=found.gold)
    return found


def best_share(top: NDArray[np.float64], right: NDArray[np.bool_], wanted: float) -> float:
    """The share of these answers that can be given with this accuracy, known by hindsight."""
    if not len(top):
        return 0.0
    hits = np.cumsum(right[np.argsort(-top, kind="stable")]) / np.arange(1, len(top) + 1)
    reached = np.flatnonzero(hits >= wanted)
    return (reached[-1] + 1) / len(top) if len(reached) else 0.0


def reachable_share(texts: Population, wanted: float, n_gold: int) -> float:
    """The largest share that a single test certifies on every second draw, if its switch were known beforehand."""
    right = np.cumsum(texts.right[np.argsort(-texts.top, kind="stable")]) / np.arange(1, len(texts.gold) + 1)
    for n in range(n_gold, 0, -max(1, n_gold // 100)):
        expected = right[round(n / n_gold * len(right)) - 1]
        if tail(min(n, round(expected * n)), n, wanted) <= 1 - PROMISE.confidence:
            return n / n_gold
    return 0.0


@dataclass(frozen=True)
class Outcome:
    """What one rule stated on one draw of gold texts, held against the texts to come."""

    exceeded: bool
    share: float  # that is answered (by the fast student), or of a label set's size
    best: float  # the share with hindsight
    none: bool  # whether nothing could be stated


def accuracy(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """One switch for all answers: `potstill certify`."""
    aside = for_reference(len(gold.top))
    if rule == "bound":
        tested = certify_switches(Answers(gold.top[~aside], gold.right[~aside], gold.top[aside]), wanted, 1 - PROMISE.confidence)
        sure = None if tested.best is None else tested.best.sure
    else:
        sure = lowest_threshold(gold.top, gold.right, wanted)
    given = np.zeros(len(fresh.top), bool) if sure is None else fresh.top >= sure
    missed = bool(given.any() and fresh.right[given].mean() < wanted)
    return Outcome(missed, float(given.mean()), best_share(fresh.top, fresh.right, wanted), sure is None)


def answered_share(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """The share that a certificate says is answered at least; by the point rule the share of the gold texts."""
    aside = for_reference(len(gold.top))
    top = gold.top[~aside]
    best = certify_switches(Answers(top, gold.right[~aside], gold.top[aside]), wanted, 1 - PROMISE.confidence).best
    if best is None:
        return Outcome(False, 0.0, 0.0, True)
    stated = share_at_least(best.n_answered, len(top), PROMISE.confidence) if rule == "bound" else best.n_answered / len(top)
    true = float((fresh.top >= best.sure).mean())
    return Outcome(true < stated, stated, true, False)


def precision(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """A threshold for each label: `potstill calibrate --precision`. Exceeded if any label's precision is missed."""
    names = [str(c) for c in range(gold.slow.shape[1])]
    promise = PROMISE if rule == "bound" else POINT
    thresholds = fit_thresholds(gold.slow, gold.gold, names, wanted, "gold", promise).by_label
    answers, share, best, missed = fresh.slow.argmax(axis=1), 0.0, 0.0, False
    for c, name in enumerate(names):
        mine, sure = answers == c, thresholds[name]
        best += best_share(fresh.top[mine], fresh.right[mine], wanted) * mine.mean()
        given = mine & (fresh.top >= (2.0 if sure is None else sure))
        share += given.mean()
        missed |= bool(given.any() and fresh.right[given].mean() < wanted)
    return Outcome(missed, float(share), float(best), not share)


def coverage(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """Label sets: `potstill calibrate --coverage`. In place of a share stands the mean number of labels in a set."""
    del wanted
    made = fit_label_sets(gold.slow, gold.gold, COVERAGE, "gold", PROMISE if rule == "bound" else POINT).conformal
    inside = 1 - fresh.slow <= made.quantile + 1e-8
    covered = inside[np.arange(len(fresh.gold)), fresh.gold].mean()
    scores = np.sort(1 - fresh.slow[np.arange(len(fresh.gold)), fresh.gold])
    best = (1 - fresh.slow <= scores[int(np.ceil(COVERAGE * len(scores))) - 1]).sum(axis=1).mean()
    return Outcome(bool(covered < COVERAGE), float(inside.sum(axis=1).mean()), float(best), False)


def disagreement(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """`potstill cascade` without gold labels."""
    del wanted
    answered, new = gold.cascade(False), fresh.cascade(False)
    chosen = certified_threshold if rule == "bound" else lambda *args: choose_threshold(*args[:2])
    found = chosen(answered, MAX_DISAGREEMENT, PROMISE.confidence)
    return _cascade(new, found.sure, cascade_loss(new, found.sure) > MAX_DISAGREEMENT, MAX_DISAGREEMENT)


def lost_accuracy(gold: Population, fresh: Population, wanted: float, rule: Rule) -> Outcome:
    """`potstill cascade` with gold labels: accuracy lost; by the point rule macro-F1 lost."""
    del wanted
    new = fresh.cascade(True)
    if rule == "bound":
        sure = certified_threshold(gold.cascade(True), MAX_LOSS, PROMISE.confidence).sure
        probs = mixed(new, sure)
        lost = fresh.right.mean() - (probs.argmax(axis=1) == fresh.gold).mean()
    else:
        sure = choose_threshold(gold.cascade(True), MAX_LOSS).sure
        lost = macro_f1(new.slow, fresh.gold) - macro_f1(mixed(new, sure), fresh.gold)
    return _cascade(new, sure, bool(lost > MAX_LOSS), MAX_LOSS)


def _cascade(new: CascadeProbs, sure: float, exceeded: bool, max_loss: float) -> Outcome:
    """The outcome of a cascade, with the largest share of the fast student that keeps the loss, by hindsight."""
    top, fast, slow = new.fast.max(axis=1), new.fast.argmax(axis=1), new.slow.argmax(axis=1)
    lost = (fast != slow).astype(int) if new.gold is None else (slow == new.gold).astype(int) - (fast == new.gold).astype(int)
    losses = np.cumsum(lost[np.argsort(-top, kind="stable")]) / len(top)
    over = np.flatnonzero(losses > max_loss)
    best = over[0] / len(top) if len(over) else 1.0
    return Outcome(exceeded, float((top >= sure).mean()), float(best), sure > 1)


Measure = Callable[[Population, Population, float, Rule], Outcome]
MEASURES: dict[str, Measure] = {
    "accuracy": accuracy,
    "answered share": answered_share,
    "precision": precision,
    "coverage": coverage,
    "disagreement": disagreement,
    "lost accuracy": lost_accuracy,
}


def draws(texts: Population, n_gold: int, n_splits: int, seed: int = 0) -> Iterator[tuple[str, Population, Population]]:
    """(how, gold texts, texts to come) of every draw."""
    rng, n = np.random.default_rng(seed), len(texts.gold)
    for _ in range(n_splits):
        yield "draw", texts.at(rng.integers(0, n, n_gold)), texts
        order = rng.permutation(n)
        yield "re-split", texts.at(order[:n_gold]), texts.at(order[n_gold:])


def measure(texts: Population, n_gold: int, n_splits: int, names: list[str]) -> Iterator[str]:
    """A line for each measure and rule."""
    wanted = round(min(0.97, float(texts.right.mean()) + 0.05), 2)
    found: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for how, gold, fresh in draws(texts, n_gold, n_splits):
        for name in names:
            for rule in ("bound", "point"):
                if rule == "bound" or (how == "draw" and len(found[name, rule, how]) < N_POINT):
                    found[name, rule, how].append(MEASURES[name](gold, fresh, wanted, rule))
    reachable = reachable_share(texts, wanted, n_gold)
    yield f"{n_gold:5} accuracy {texts.right.mean():.3f}, wanted {wanted}; one test known beforehand would reach {reachable:.3f}"
    for (name, rule, how), outcomes in found.items():
        stated = [one for one in outcomes if not one.none]
        n, total = sum(one.exceeded for one in outcomes), len(outcomes)
        low, high = wilson(n, total)
        share, best, none = (
            np.mean([one.share for one in outcomes]),
            np.mean([one.best for one in outcomes]),
            1 - len(stated) / total,
        )
        yield (
            f"{n_gold:5} {name:15} {rule:6} {how:9} {n / total:.3f} [{low:.3f}, {high:.3f}] of {total:3}  "
            f"{share:7.3f} {best:7.3f} {none:5.2f}"
        )


def main() -> None:
    """Print a line for each set, number of gold texts, measure and rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--splits", type=int, default=300)
    parser.add_argument("--gold", type=int, nargs="+", default=[400, 800])
    parser.add_argument("--cache", type=Path, help="folder for the answers")
    options = parser.parse_args()
    print("set                       gold measure         rule   how       exceeded                       share    best  none")
    for name in options.sets:
        texts = population(options.data / name, options.cache)
        for n_gold in options.gold:
            for line in measure(texts, n_gold, options.splits, options.measures):
                print(f"{name:24} {line}", flush=True)


if __name__ == "__main__":
    main()
