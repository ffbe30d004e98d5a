"""How many texts of another task a bundle calls unfamiliar, how many of its own, and what that costs.

    python benchmarks/promises/unfamiliar.py DATA --out out/unfamiliar [--sets NAME ...] [--n 900]
    python benchmarks/promises/unfamiliar.py --cost out/unfamiliar/bundles/trec --texts out/unfamiliar/trec.jsonl

For each set: soft labels from gold of 900 texts, a student, a bundle. Then it answers 500 further texts of its own set and 300 of
every other. Beside the bundle's own score stand its two parts alone, the energy of the logits and the largest probability, each
with a threshold chosen by the same rule on the same validation texts. The layer, the number of directions and the shares of tokens
were chosen on financial_phrasebank and trec; the other sets show what that is worth. DATA holds a folder per set: `*.jsonl.gz` of
`text` and `label`. What exists in the out folder is kept. `--cost` answers the texts in turns with the bundle and with a copy that
cannot tell.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from potstill.contract.bundle import MODEL_FILE, write_sums
from potstill.contract.checkpoint import VALIDATION_FILE
from potstill.contract.promises.familiarity import FAMILIARITY_FILE, rank_of_threshold, unfamiliarity_of
from potstill.contract.soft_label import SoftLabel, read_soft_labels, write_soft_labels
from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text, read_texts, write_texts
from potstill.export.bundle.distance import without_distance
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.calibration.thresholds import wilson
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train

CHOSEN_ON = ("financial_phrasebank", "trec")
SETS = (*CHOSEN_ON, "ag_news", "sst2", "twitter_financial_news")
OTHERS = ("stock_market_sentiment", "sms_spam", "banking77", "fiqa2018_task1", "chnsenticorp_hotel_zh")  # never a pool
N_OWN, N_OTHER = 500, 300
SCORES = ("bundle", "tokens", "distance", "energy", "probability")


def rows_of(data: Path, name: str) -> list[tuple[str, str]]:
    """(text, label) of a set, each text once, in random order."""
    lines = [line for file in sorted((data / name).glob("*.jsonl.gz")) for line in gzip.decompress(file.read_bytes()).splitlines()]
    rows = [row for row in map(json.loads, lines) if row.get("label") is not None]
    random.Random(0).shuffle(rows)
    found: dict[str, str] = {}
    for row in rows:
        if row["text"].strip():
            found.setdefault(row["text"], str(row["label"]))
    return list(found.items())


def make_bundle(rows: list[tuple[str, str]], name: str, out: Path, family: str) -> Path:
    """A bundle of a student that was trained on these rows."""
    bundle, checkpoint = out / "bundles" / name, out / "students" / name
    if not checkpoint.exists():
        names = sorted({label for _, label in rows})
        first = {label: text for text, label in reversed(rows)}
        task = Task(
            format=1, name=name, question="Which is it?", guideline="", labels=[Label(name=one, meaning=one) for one in names],
            examples=[Example(text=first[one], rationale="it is", label=one) for one in names],
        )  # fmt: skip
        soft = [
            SoftLabel(
                id=str(i), text=text, probs={one: float(one == label) for one in names},
                votes={one: int(one == label) for one in names}, agreement=1.0, n_paths=1, entropy=0.0, label_mass=1.0,
                method="gold", teacher_digest="gold", task_digest=task.digest,
            )
            for i, (text, label) in enumerate(rows)
        ]  # fmt: skip
        write_soft_labels(out / f"{name}.parquet", soft)
        train(task, out / f"{name}.parquet", checkpoint, TrainConfig(family=family))
    if not bundle.exists():
        print(export_bundle(checkpoint, bundle, ExportConfig()).as_text(), flush=True)
    return bundle


def scores(classifier: Classifier, texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """By name, a score of each text, float64 [N]; higher is more unfamiliar."""
    known, tokens_of = classifier.familiarity, unfamiliarity_of(classifier.familiarity)
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    for text in texts:
        answer, trace = classifier.traced(text)
        tokens = tokens_of(classifier.tokenizer.ids(text)["input_ids"][0].tolist(), 0.0)
        distance = (answer.unfamiliarity - tokens) / (known.distance_weight or 1.0)
        energy = -float(np.log(np.exp(trace.logits).sum()))
        row = (answer.unfamiliarity, tokens, distance, energy, -answer.probs[answer.label])
        for name, value in zip(SCORES, row, strict=True):
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def measure(data: Path, name: str, out: Path, n: int, family: str) -> dict[str, dict[str, tuple[int, int]]]:
    """By score and set, (texts called unfamiliar, texts); of the set itself these are false alarms."""
    rows = rows_of(data, name)
    bundle = make_bundle(rows[:n], name, out, family)
    others = {other: [text for text, _ in rows_of(data, other)] for other in (*SETS, *OTHERS) if other != name}
    asked = {name: [text for text, _ in rows[n : n + N_OWN]]}
    asked |= {other: (texts[n : n + N_OTHER] if len(texts) >= n + N_OTHER else texts[-N_OTHER:]) for other, texts in others.items()}
    validation = [row.text for row in read_soft_labels(out / "students" / name / VALIDATION_FILE)]
    with Classifier.open(bundle) as classifier:
        rate = classifier.familiarity.rate
        held_out = scores(classifier, validation)
        rank = rank_of_threshold(len(validation), rate)
        thresholds = {score: np.sort(values)[rank - 1] for score, values in held_out.items()}
        if not math.isclose(thresholds["bundle"], classifier.familiarity.threshold, rel_tol=1e-6):
            raise SystemExit(f"{bundle}: has the threshold {classifier.familiarity.threshold}, found here: {thresholds['bundle']}")
        found: dict[str, dict[str, tuple[int, int]]] = {score: {} for score in SCORES}
        for other, texts in asked.items():
            for score, values in scores(classifier, texts).items():
                found[score][other] = int((values > thresholds[score]).sum()), len(texts)
    return found


def cost(bundle: Path, texts: Sequence[str], rounds: int = 7) -> str:
    """The p50 of a text with the bundle, and with a copy that cannot tell, in turns; each text's fastest of the rounds counts."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"
        shutil.copytree(bundle, plain)
        (plain / FAMILIARITY_FILE).unlink()
        (plain / MODEL_FILE).write_bytes(without_distance(onnx.load(plain / MODEL_FILE)).SerializeToString(deterministic=True))
        write_sums(plain)
        with Classifier.open(bundle) as told, Classifier.open(plain) as untold:
            if [one.probs for one in told.classify(texts)] != [one.probs for one in untold.classify(texts)]:
                raise SystemExit(f"{bundle}: answers otherwise than without its second output")
            times = np.full((2, len(texts)), np.inf)
            for turn in range(rounds):
                for i, text in enumerate(texts):
                    for at in (0, 1) if (turn + i) % 2 else (1, 0):
                        classifier = (told, untold)[at]
                        start = time.perf_counter()
                        classifier.classify([text])
                        times[at, i] = min(times[at, i], time.perf_counter() - start)
    with_it, without = np.median(times, axis=1) * 1e3
    return (
        f"{bundle.name}: p50 {with_it:.4f} ms with, {without:.4f} without, {with_it / without - 1:+.2%}; "
        f"median of the texts' differences {np.median(times[0] - times[1]) * 1e6:+.1f} us ({len(texts)} texts, {rounds} rounds)"
    )


def main() -> None:
    """Print a table for each set, or the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("out/unfamiliar"))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--n", type=int, default=900, help="texts of the pool, validation included")
    parser.add_argument("--family", default="encoder")
    parser.add_argument("--cost", type=Path, nargs="*", help="bundles")
    parser.add_argument("--texts", type=Path)
    options = parser.parse_args()
    if options.cost:
        texts = [text.text for text in read_texts(options.texts).texts][:300]
        print(*(cost(bundle, texts) for bundle in options.cost), sep="\n")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        found = measure(options.data, name, options.out, options.n, options.family)
        own = [Text(text, str(i)) for i, (text, _) in enumerate(rows_of(options.data, name)[options.n : options.n + N_OWN])]
        (options.out / f"{name}.jsonl").write_bytes(write_texts(own))
        print(f"\n{name}, {'chosen on' if name in CHOSEN_ON else 'reported'}")
        for score, by_set in found.items():
            alarms, n_own = by_set[name]
            low, high = wilson(alarms, n_own)
            shares = {other: hits / n for other, (hits, n) in by_set.items() if other != name}
            listed = " ".join(f"{other}:{share:.2f}" for other, share in shares.items())
            mean = np.mean(list(shares.values()))
            print(f"  {score:12} found {mean:.3f}  false alarms {alarms / n_own:.3f} [{low:.3f}, {high:.3f}]  {listed}", flush=True)


if __name__ == "__main__":
    main()
