"""How good the embedded teacher's labels are, method by method, on posts with gold labels; no gold is used before scoring.

    python benchmarks/label_quality.py --data DATA [--out out/label_quality] [--pack Q4_0]

DATA holds `reddit_wsb_stance/gold_dev.jsonl.gz`: JSON lines with text and label. The task is the example's own, unchanged. A run
that was stopped goes on where it was. Prints a Markdown table: accuracy, macro-F1, log-loss and ECE with 95 % intervals.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.config import BOUND, LabelConfig
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.opening import open_local

ROOT = Path(__file__).resolve().parent.parent
RUNS = {
    "direct, 8 variants": LabelConfig(mode="direct"),
    "direct, 8 variants, no guideline": LabelConfig(mode="direct", guideline=False),
    "cot, 8 paths": LabelConfig(mode="cot"),
    "cot, adaptive": LabelConfig(mode="cot", bound=BOUND),
    "cascade, 4 direct, 8 cot for 30 %": LabelConfig(mode="cascade"),
    "direct, chat template": LabelConfig(mode="direct", n_paths=2, template="chat"),
}
METHODS = {
    "majority": DeriveConfig(method="majority"),
    "votes (uncalibrated)": DeriveConfig(method="votes"),
    "mean (uncalibrated)": DeriveConfig(method="mean"),
    "calibrated": DeriveConfig(),
    "calibrated, variants weighted": DeriveConfig(weighting="agreement"),
    "calibrated, 10 neighbours": DeriveConfig(smooth=10),
    "both": DeriveConfig(weighting="agreement", smooth=10),
    "affine (uses gold, cross-validated)": DeriveConfig(method="affine"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/label_quality"))
    parser.add_argument("--pack", default="Q4_0")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), help="names of the runs to make")
    options = parser.parse_args()
    task = load_task(ROOT / "examples" / "market_stance" / "task.toml")
    with gzip.open(options.data / "reddit_wsb_stance" / "gold_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [Text(row["text"], str(i), gold=row["label"]) for i, row in enumerate(map(json.loads, file))]
    teacher = open_local("smollm2-135m-instruct", pack=options.pack, tell=lambda line: print(line, file=sys.stderr))
    print(f"{len(texts)} posts, {teacher.identity.name}, {options.pack}\n")
    print("| run | method | accuracy | macro-F1 | log-loss | ECE |\n| --- | --- | --- | --- | --- | --- |")
    gold = np.array([task.label_names.index(text.gold or "") for text in texts])
    for name in options.runs:
        place = options.out / f"{name.replace(' ', '_').replace(',', '')}.db"
        began = time.monotonic()
        report = label(task, texts, place, teacher, RUNS[name])
        print(f"{name}: {report.as_text()} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        with LabelStore.read(place) as store:
            for method, config in METHODS.items():
                try:
                    rows = {row.id: row for row in soft_labels(store, report.run, config)}
                except UserError as error:  # a run of few variants cannot weigh them
                    print(f"{name}, {method}: {error}", file=sys.stderr)
                    continue
                probs = np.array([[rows[text.id].probs[label] for label in task.label_names] for text in texts])
                scores = metrics.scores(probs, gold)
                cells = " | ".join(f"{scores[m].as_text()}" for m in ("accuracy", "macro_f1", "log_loss", "ece"))
                print(f"| {name} ({report.n_paths / len(texts):.1f} paths) | {method} | {cells} |", flush=True)
    teacher.close()


if __name__ == "__main__":
    main()
