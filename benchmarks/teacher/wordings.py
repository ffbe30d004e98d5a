"""Whether another question about the same labels is worth more than another prompt with the same one.

    python benchmarks/teacher/wordings.py --data DATA [--out out/wordings] [--sets NAME ...] [--pool 1800] [--n 600]
        [--students 3]

The embedded teacher labels texts of each set, in mode `direct` and without the guideline, with two paths: the task's own
question in two prompts, and its own question and another wording (`[[wordings]]` in task.toml), which asks for the author's
mood. Prints a table in Markdown: accuracy, macro-F1, log-loss and expected calibration error of the soft labels with and
without what other texts say, and the paired differences in macro-F1 with 95 % bootstrap intervals over texts. No gold label is
shown to the labeler. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
from refined_students import answers, interval
from text_prior import METRICS, ROOT, SETS, STANCE, both

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from student_table import Steps

from potstill.contract.questions.kind_scores import difference_of, kind_metrics, scores_of
from potstill.contract.scores.metrics import accuracy, ece, log_loss, macro_f1
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task, load_task
from potstill.contract.texts import Text, read_texts
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore
from potstill.trainer.config import TrainConfig

EXAMPLE = "the example's posts"
MOOD = """
[[wordings]]
question = "How does the author feel about the price?"
answer = "Mood"

[wordings.words]
bullish = ["hopeful", "happy", "excited", "confident"]
bearish = ["worried", "angry", "fearful", "disappointed"]
neutral = ["curious", "calm", "unsure", "indifferent"]
"""
WAYS = ("its own question, two prompts", "its own question and the mood")
DERIVED = ("paths alone", "with the other texts")


def main() -> None:
    """Label, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/wordings"))
    names = [EXAMPLE, "Reddit stance", "PhraseBank", "Twitter news"]
    parser.add_argument("--sets", nargs="*", choices=names, default=names[:3])
    parser.add_argument("--pool", type=int, default=1800, help="texts that are labelled and not scored")
    parser.add_argument("--n", type=int, default=600, help="texts that are scored")
    parser.add_argument("--students", type=int, default=0, help="seeds of students that learn the pool's refined labels")
    options = parser.parse_args()
    steps, space = Steps(options.out.resolve()), TextSpace(DeriveConfig.backbone)
    print("| set | asked | soft labels | texts | scored | accuracy | macro-F1 | log-loss | ECE |\n| --- |" + " --- |" * 8)
    for name in options.sets:
        for line in rows_of(name, *texts_of(name, options), steps, space, options.students):
            print(line, flush=True)


def texts_of(name: str, options: argparse.Namespace) -> tuple[list[Text], dict[str, str]]:
    """A set's texts, and the gold labels by id of those that are scored."""
    if name == EXAMPLE:
        scored, rest = examples_of("gold"), [text.text for text in examples_of("texts")]
        renamed: dict[str, str] = {}
    else:
        found = SETS[name]
        scored, renamed = found.scored(options.data)[: options.n], found.names
        known = {text.text for text in scored}
        rest = list(dict.fromkeys(text.text for text in found.pool(options.data) if text.text not in known))
        random.Random(0).shuffle(rest)
    texts = [Text(text.text, f"scored-{i}") for i, text in enumerate(scored)]
    texts += [Text(text, f"pool-{i}") for i, text in enumerate(rest[: options.pool])]
    gold = {f"scored-{i}": renamed.get(text.gold or "", text.gold or "") for i, text in enumerate(scored)}
    return texts, gold


def student_cells(task: Task, rows: list[SoftLabel], gold: dict[str, str], n_seeds: int) -> str:
    """The cells of students that learn the refined labels of the texts that are not scored."""
    scored, pool = [row for row in rows if row.id in gold], [row for row in rows if row.id not in gold]
    wanted = np.array([task.label_names.index(gold[row.id]) for row in scored])
    said = [answers(task, pool, scored, TrainConfig(), seed) for seed in range(n_seeds)]
    by_seed = ", ".join(f"{macro_f1(probs, wanted):.3f}" for probs in said)
    means = [f"{np.mean([measure(probs, wanted) for probs in said]):.3f}" for measure in (log_loss, ece)]
    found = " | ".join(interval(measure, said, wanted) for measure in (accuracy, macro_f1))
    return f"students, macro-F1 by seed {by_seed} | {len(pool)} | {len(wanted)} | {found} | {' | '.join(means)}"


def examples_of(stem: str) -> list[Text]:
    """The example's texts, those that the demo uses and the further ones. Args: stem, `gold` or `texts`."""
    files = [(ROOT / STANCE).parent / f"{part}{stem}.jsonl" for part in ("", "more_")]
    return [text for file in files for text in read_texts(file).texts]


def rows_of(name: str, texts: list[Text], gold: dict[str, str], steps: Steps, space: TextSpace, n_students: int) -> list[str]:
    """The lines of one set."""
    own = (ROOT / STANCE).read_text(encoding="utf-8")
    lines: list[str] = []
    said: dict[str, list[NDArray[np.float64]]] = {}
    wanted = np.array([], dtype=np.int64)
    for way, content in zip(WAYS, (own, own + MOOD), strict=True):
        task = steps.out / f"{'own' if content == own else 'mood'}.toml"
        task.parent.mkdir(parents=True, exist_ok=True)
        task.write_text(content, encoding="utf-8")
        asked: list[object] = ["--mode", "direct", "--paths", 2, "--variants", 2, "--no-guideline", "--refine", "off"]
        labels = steps.labels(f"{name} {task.stem}", task, texts, asked)
        with LabelStore.read(labels.parent / "labels.db") as store:
            run = store.find_run(None)
            table = read_paths(store, run)
            rows = derive(store, run, DeriveConfig(refine="on"), space=space).rows if n_students else []
        names = list(run.settings.labels)
        wanted = np.array([names.index(gold[text.id]) for text in table.texts if text.id in gold])
        known = np.array([text.id in gold for text in table.texts])
        said[way] = [probs[known] for probs in both(table, run, space)]
        for derived, probs in zip(DERIVED, said[way], strict=True):
            scores = scores_of("choice", probs, wanted)
            cells = " | ".join(scores[metric].as_text() for metric in METRICS)
            lines.append(f"| {name} | {way} | {derived} | {len(texts)} | {len(wanted)} | {cells} |")
        if rows:
            lines.append(f"| {name} | {way} | {student_cells(load_task(task), rows, gold, n_students)} |")
    measure = kind_metrics("choice")["macro_f1"]
    for place, derived in enumerate(DERIVED):
        change = difference_of(measure, said[WAYS[1]][place], said[WAYS[0]][place], wanted)
        lines.append(f"| | gain in macro-F1 by the mood | {derived} | | | | {change.as_text()} | | |")
    return lines


if __name__ == "__main__":
    main()
