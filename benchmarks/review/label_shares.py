"""How often the intervals of label shares hold, and how wide they are, with one hundred gold texts of real sets.

    python benchmarks/review/label_shares.py DATA [--gold 100] [--resamples 1000] [--half 1] [--bundle ag_news=FOLDER]

A classifier of character n-grams, trained on some rows of a set, stands in for a bundle (coverage needs no network); with --bundle
a real one answers. Its answers to the other rows are the texts, whose true shares are known. They are cut in two: on half 0 the
method was chosen, on half 1 it is reported. Gold texts are drawn again and again: `within`, from the texts without replacement;
`beside`, texts and gold texts each drawn with replacement, so that neither is part of the other.

The sets stand for the kinds of questions: phrasebank a degree of three levels, ag_news and trec choices (trec has a label of 2 %),
sms_spam yes or no, banking77 tags, which are words in the names of its intents. DATA holds a folder per set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from potstill.serve.offline.prediction_powered import EXTRA_MISS, Interval, Observed, mean, mean_alone, share, share_alone, wilson
from potstill.serve.runtime.classifier import Classifier

SETS = {"financial_phrasebank": 500, "ag_news": 500, "trec": 500, "sms_spam": 500, "banking77": 2000}  # rows to train on
LEVELS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}  # phrasebank as a degree
TAGS = ("card", "top_up", "transfer", "exchange", "refund", "cash", "payment", "pin", "identity", "atm")
N_ANSWERED, CONFIDENCE = 5000, 0.95
N_TEXTS = 2000  # of a corpus beside the gold texts
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A label's share, or the mean level of a degree: what is so, and what the classifier says, text by text."""

    name: str
    true: Floats  # [N]
    answers: Floats  # [N]
    counted: Floats  # [N], the bare answer: 0 or 1
    worth: Floats | None = None  # of a mean level: what the levels are worth

    def half(self, which: int) -> Quantity:
        """Every second text."""
        rows = slice(which, None, 2)
        return Quantity(self.name, self.true[rows], self.answers[rows], self.counted[rows], self.worth)


def rows_of(folder: Path) -> tuple[list[str], NDArray[np.str_]]:
    """The texts of a set, each once and shuffled, and their labels."""
    lines = [line for file in sorted(folder.glob("*.jsonl.gz")) for line in gzip.decompress(file.read_bytes()).splitlines()]
    rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    label_of: dict[str, str] = {}
    for row in rows:
        if row.get("label") is not None:
            label_of.setdefault(row["text"], str(row["label"]))
    return list(label_of), np.array(list(label_of.values()))


def quantities(folder: Path, bundle: Path | None) -> list[Quantity]:
    """What there is to estimate in a set, over the rows that nothing was trained on."""
    texts, labels = rows_of(folder)
    n_train = SETS[folder.name]
    texts, labels = texts[: n_train + N_ANSWERED], labels[: n_train + N_ANSWERED]
    if bundle is None:
        grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=30_000)
        model = LogisticRegression(C=10, max_iter=200).fit(grams.fit_transform(texts[:n_train]), labels[:n_train])
        names, probs = [str(name) for name in model.classes_], model.predict_proba(grams.transform(texts[n_train:]))
    else:
        with Classifier.open(bundle) as opened:
            names, probs = opened.manifest.labels, opened.probs(texts[n_train:])
    known = np.isin(labels[n_train:], names)
    true = np.array([names.index(label) for label in labels[n_train:][known]])
    probs = probs[known]
    if folder.name == "banking77":
        of_tag = [np.array([tag in name.lower() for name in names]) for tag in TAGS]
        mass = [(tag, holds[true], probs[:, holds].sum(axis=1)) for tag, holds in zip(TAGS, of_tag, strict=True)]
        return [Quantity(tag, holds.astype(float), sums, (sums >= 0.5).astype(float)) for tag, holds, sums in mass]
    top = probs.argmax(axis=1)
    found = [Quantity(name, (true == c) * 1.0, probs[:, c], (top == c) * 1.0) for c, name in enumerate(names)]
    if folder.name == "financial_phrasebank":
        worth = np.array([LEVELS[name] for name in names])
        found.append(Quantity("mean level", worth[true], probs @ worth, probs @ worth, np.sort(worth)))
    return found[1:] if folder.name == "sms_spam" else found  # of yes and no one is enough


def normal_interval(seen: Observed) -> Interval:
    """PPI++ as published: a normal interval."""
    value, of_labels, of_texts = seen.powered(seen.weight)
    half = 1.96 * (of_labels + of_texts) ** 0.5
    return Interval(value, value - half, value + half)


def intervals(seen: Observed, worth: Floats | None) -> dict[str, Interval]:
    """The interval of each method."""
    if worth is not None:
        alone = mean_alone(seen.gold, worth, CONFIDENCE)
        return {"potstill": mean(seen, worth, CONFIDENCE), "gold alone": alone, "PPI++, normal": normal_interval(seen)}
    found = {"potstill": share(seen, CONFIDENCE), "gold alone": share_alone(seen.gold, CONFIDENCE)}
    found["PPI++, normal"] = normal_interval(seen)
    for extra in (0.0, 0.1, 0.5, 1.0):
        found[f"extra miss {extra:g}"] = share(seen, CONFIDENCE, extra)
    return found


def draw(what: list[Quantity], n_gold: int, how: str, rng: np.random.Generator) -> list[tuple[Quantity, Observed, float]]:
    """(quantity, what is seen of it, the bare answers' mean) of one draw of gold texts."""
    n = len(what[0].true)
    if how == "within":
        gold, texts = rng.choice(n, n_gold, replace=False), np.arange(n)
    else:
        gold, texts = rng.integers(0, n, n_gold), rng.integers(0, n, N_TEXTS)
    return [
        (one, Observed(one.true[gold], one.answers[gold], one.answers[texts], how == "within"), float(one.counted[texts].mean()))
        for one in what
    ]


def measure(what: list[Quantity], n_gold: int, n_resamples: int, how: str) -> list[str]:
    """A line for each quantity and method, and one for all quantities together."""
    rng = np.random.default_rng(0)
    held: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    off: dict[str, list[float]] = defaultdict(list)
    for _ in range(n_resamples):
        for one, seen, counted in draw(what, n_gold, how, rng):
            true = float(one.true.mean())
            off[one.name].append(counted - true)
            for method, found in intervals(seen, one.worth).items():
                held[one.name, method].append((found.low <= true <= found.high, found.width))
    lines = []
    methods = list(dict.fromkeys(method for _, method in held))
    for one in what:
        for method in methods:
            if outcomes := held.get((one.name, method)):
                lines.append(_line(one.name, f"{one.true.mean():.3f} {np.mean(off[one.name]):+.3f}", method, outcomes))
    for method in methods:
        together = [outcome for (_, by), outcomes in held.items() if by == method for outcome in outcomes]
        lines.append(_line("ALL", " " * 12, method, together, len(together) // n_resamples))
    return lines


def _line(name: str, true: str, method: str, outcomes: list[tuple[bool, float]], n_shared: int = 1) -> str:
    """How often an interval held, and its mean width. Args: n_shared, quantities of the same resample, which count once."""
    covered = float(np.mean([held for held, _ in outcomes]))
    low, high = wilson(covered, len(outcomes) / n_shared, CONFIDENCE)
    return f"{name:14} {true}  {method:14} {covered:.3f} [{low:.3f}, {high:.3f}]  {np.mean([width for _, width in outcomes]):.3f}"


def main() -> None:
    """Print a line for each set, number of gold texts, quantity and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--gold", type=int, nargs="+", default=[100])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--half", type=int, choices=[0, 1], default=1)
    parser.add_argument("--how", nargs="+", choices=["within", "beside"], default=["within", "beside"])
    parser.add_argument("--bundle", action="append", default=[], metavar="SET=FOLDER", help="a bundle that answers a set's texts")
    options = parser.parse_args()
    bundles = {name: Path(place) for name, _, place in (one.partition("=") for one in options.bundle)}
    print(f"half {options.half}, extra miss {EXTRA_MISS:g}; share and error of the bare answers; covered; mean width")
    for name in options.sets:
        what = [one.half(options.half) for one in quantities(options.data / name, bundles.get(name))]
        for how in options.how:
            for n_gold in options.gold:
                for line in measure(what, n_gold, options.resamples, how):
                    print(f"{name:21} {how} {n_gold:4} {line}", flush=True)


if __name__ == "__main__":
    main()
