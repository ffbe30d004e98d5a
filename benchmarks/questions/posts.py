"""Four questions about posts: one student of all, one of each, TF-IDF on the same soft labels, and ten gold texts a class.

    python benchmarks/questions/posts.py draw DATA FOLDER [--n 2000]
    potstill label benchmarks/questions/task.toml FOLDER/texts.jsonl FOLDER/labels --mode direct --paths 2
    python benchmarks/questions/posts.py score DATA FOLDER [--seeds 3] [--threads 1]

`draw` writes posts and comments of the unlabelled pool, and the 600 posts with a stance but without it. `score` sets a
quarter of the pool aside by hash and trains on the rest. Nobody has labelled all four questions, so on the texts set aside
the systems are scored against the teacher's majority answers; the stance is scored on people's labels, too, beside a student
of ten of them a class, whose texts are left out. Means over seeds; 95 % bootstrap intervals over texts, of paired
differences.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gold_sets import reddit_pool, stance
from joint import Floats, is_set_aside, joint_answers, line, own_answers
from real_sets import HERE, N_GOLD, VALIDATION_SHARE, certain

from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
from potstill.contract.questions.soft_answers import SoftAnswers, read_soft_answers, rows_of
from potstill.contract.texts import Text, write_texts
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.rows import split_rows
from potstill.trainer.evaluation.baselines.tfidf import tfidf_answers

GOLD_QUESTION = "stance"


def main() -> None:
    """Draw the texts, or train and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["draw", "score"])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "draw":
        draw(options.data, options.folder, options.n)
    else:
        score(options.data, options.folder, options.seeds, TrainConfig(threads=options.threads))


def draw(data: Path, folder: Path, n: int) -> None:
    """Write `texts.jsonl`: posts with a stance, without it, and n posts and comments of the pool."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [Text(text.text, text.id) for text in stance(data)] + reddit_pool(data, n)
    (folder / "texts.jsonl").write_bytes(write_texts(texts))


def score(data: Path, folder: Path, n_seeds: int, config: TrainConfig) -> None:
    """Train the students and print a line for each question, metric and system that the joint student is compared with."""
    task = load_any_task(HERE / "task.toml")
    if not isinstance(task, Questionnaire):
        raise TypeError("the task asks several questions")
    rows = read_soft_answers(folder / "labels" / "soft_labels.parquet", task.questions)
    gold = {text.text: text.gold for text in stance(data)}
    training = [row for row in rows if row.text not in gold and not is_set_aside(row, 0.25)]
    aside = [row for row in rows if row.text not in gold and is_set_aside(row, 0.25)]
    labelled, few = people_say(task, [row for row in rows if row.text in gold], gold)
    print(f"{len(training)} texts to train on, {len(aside)} set aside, {len(labelled)} with a stance by people", flush=True)
    everything, seeds = [*aside, *labelled], range(n_seeds)
    joint = [joint_answers(task, training, everything, config, seed) for seed in seeds]
    print(f"the joint student is trained, {n_seeds} times", flush=True)
    for question in task.questions:
        mine = [one[question.name] for one in joint]
        others = {
            "own": [own_answers(task, question, training, everything, config, seed) for seed in seeds],
            "TF-IDF": [tfidf(training, question, everything)],
        }
        for name, theirs in others.items():
            compare(question, aside, [one[: len(aside)] for one in mine], [one[: len(aside)] for one in theirs], name)
        if question.name == GOLD_QUESTION:
            others[f"{N_GOLD} gold a class"] = [own_answers(task, question, few, everything, config, seed) for seed in seeds]
            others["teacher"] = [teacher_says(rows, question, everything)]
            print("on people's labels:")
            for name, theirs in others.items():
                compare(question, labelled, [one[len(aside) :] for one in mine], [one[len(aside) :] for one in theirs], name)


def people_say(
    task: Questionnaire, rows: list[SoftAnswers], gold: dict[str, str | None]
) -> tuple[list[SoftAnswers], list[SoftAnswers]]:
    """The rows with people's stance as an answer that is certain: those to score, and `N_GOLD` texts a class to train on."""
    question = task.find(GOLD_QUESTION)
    shuffled = sorted(rows, key=lambda row: row.id)
    random.Random(0).shuffle(shuffled)
    left = dict.fromkeys(question.label_names, N_GOLD)
    scored, few = [], []
    for row in shuffled:
        label = gold[row.text] or ""
        made = certain(row.id, row.text, question, [label], task.digest)
        (few if left[label] > 0 else scored).append(made)
        left[label] -= 1
    return scored, few


def tfidf(training: list[SoftAnswers], question: Question, rows: list[SoftAnswers]) -> Floats:
    """Logistic regression on TF-IDF of the same soft labels."""
    made = split_rows("soft labels", rows_of(training, question), VALIDATION_SHARE)
    return tfidf_answers(made, list(question.label_names), [(row.text, row.target) for row in rows])[0]


def teacher_says(rows: list[SoftAnswers], question: Question, wanted: list[SoftAnswers]) -> Floats:
    """The soft labels of the wanted texts."""
    found = {row.text: row.answers[question.name] for row in rows}
    return np.array([[found[row.text].probs[name] for name in question.label_names] for row in wanted])  # type: ignore[union-attr]


def compare(question: Question, rows: list[SoftAnswers], joint: list[Floats], others: list[Floats], name: str) -> None:
    """Print the joint student's scores beside another system's: the kind's main metric, and macro-F1 where that is another."""
    for metric in ("", *(("macro_f1",) if question.kind == "degree" else ())):
        print(line(question, rows, joint, others, metric, other=name), flush=True)


if __name__ == "__main__":
    main()
