"""Every kind of question on real texts, from labelling to students: topics, question types, yes or no, tags.

    python benchmarks/questions/real_sets.py --data DATA [--out out/real_sets] [--sets NAME ...] [--paths 4] [--pool 1500] [--n 600]

DATA holds `ag_news`, `trec` and `sst2`: gzip-compressed JSON lines with text and label. The embedded teacher labels a pool of
texts and the texts that are scored, without their labels; a student is trained on the pool's soft labels. Beside it: TF-IDF with
logistic regression on the same soft labels, and a student of the same backbone trained on ten texts a class with their gold labels.
The tags are made by joining one to three pieces of news: what holds is which sections they are from.

Gold labels are used for scores, and for the student of ten texts, alone. An interrupted run can be resumed. Prints a table in
Markdown, every figure with its 95 % bootstrap interval over texts, and the seconds of each step.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gold_sets import read_rows
from student_table import Steps

from potstill.contract.checkpoint import read_student
from potstill.contract.questions.kind_scores import MAIN, difference_of, kind_metrics, scores_of
from potstill.contract.questions.probabilities import head_probs, tag_thresholds
from potstill.contract.questions.question import YES, Kind, Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, load_any_task
from potstill.contract.questions.soft_answers import (
    QuestionLabel,
    SoftAnswers,
    read_soft_answers,
    rows_of,
    write_soft_answers,
)
from potstill.contract.soft_label import SoftLabel, read_soft_labels, write_soft_labels
from potstill.contract.texts import Text
from potstill.trainer.data.rows import TrainingRows, split_rows
from potstill.trainer.evaluation.baselines.tfidf import tfidf_answers
from potstill.trainer.students.encoder import from_checkpoint

HERE = Path(__file__).resolve().parent
N_VARIANTS = 3  # prompts, so that more paths can be drawn later
N_GOLD = 10  # texts a class of the student that is trained on gold
VALIDATION_SHARE = 0.15
SHOWN = {  # metrics in the table, by kind
    "choice": ("macro_f1", "accuracy", "ece"),
    "yesno": ("macro_f1", "auc", "ece"),
    "tags": ("macro_f1", "micro_f1", "map", "subset_accuracy"),
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RealSet:
    """A task with its texts; `gold` names the labels that hold, one but for tags."""

    task: Path
    pool: list[tuple[str, list[str]]]
    scored: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Answers:
    """A system's answers to the texts that are scored."""

    probs: Floats  # [N, C]
    thresholds: list[float] | None = None  # of tags


def labelled(data: Path, folder: str, split: str, names: dict[str, str] | None = None) -> list[tuple[str, list[str]]]:
    """The texts of a split with their labels, each text once, in random order. Args: names, the task's names of labels."""
    found = {row["text"]: [(names or {}).get(row["label"], row["label"])] for row in read_rows(data / folder / f"{split}.jsonl.gz")}
    rows = list(found.items())
    random.Random(0).shuffle(rows)
    return rows


def digests(rows: list[tuple[str, list[str]]], n: int, seed: int) -> list[tuple[str, list[str]]]:
    """Join one to three pieces of news, each piece once."""
    rng, left, made = random.Random(seed), list(rows), []
    while len(made) < n and len(left) >= 3:
        pieces = [left.pop() for _ in range(rng.choice([1, 2, 2, 3]))]
        made.append((" ".join(text for text, _ in pieces), sorted({label for _, own in pieces for label in own})))
    return made


def apart(pool: list[tuple[str, list[str]]], scored: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """The texts of the pool that are not scored."""
    known = {text for text, _ in scored}
    return [row for row in pool if row[0] not in known]


def read_set(name: str, data: Path, n_pool: int, n: int) -> RealSet:
    """A set by its name in `SETS`."""
    if name == "film reviews":
        liked = {"positive": YES, "negative": "no"}
        scored = labelled(data, "sst2", "dev", liked)[:n]
        return RealSet(HERE / "film_review.toml", apart(labelled(data, "sst2", "train", liked), scored)[:n_pool], scored)
    if name == "question types":
        scored = labelled(data, "trec", "test")[:n]
        return RealSet(HERE / "question_type.toml", apart(labelled(data, "trec", "train"), scored)[:n_pool], scored)
    scored, pool = labelled(data, "ag_news", "dev"), labelled(data, "ag_news", "train")
    pool = apart(pool, scored)
    if name == "news topics":
        return RealSet(HERE / "news_topic.toml", pool[:n_pool], scored[:n])
    return RealSet(HERE / "news_digest.toml", digests(pool, n_pool, 1), digests(scored, n, 2))


SETS = ("question types", "news topics", "film reviews", "news digests")


# Systems


def label(steps: Steps, name: str, task: Path, rows: list[tuple[str, list[str]]], paths: int) -> Path:
    """Soft labels of the texts by the embedded teacher."""
    asked = ["--mode", "direct", "--paths", paths, "--variants", max(N_VARIANTS, paths)]
    return steps.labels(name, task, [Text(text, f"{name}-{i}") for i, (text, _) in enumerate(rows)], asked)


def train(steps: Steps, name: str, task: Path, soft_labels: Path) -> Path:
    """A student with the default settings."""
    checkpoint = steps.out / "students" / name
    return steps.run(f"train {name}", checkpoint, "train", task, soft_labels, checkpoint, "--validation-share", VALIDATION_SHARE)


def student_answers(checkpoint: Path, texts: list[str]) -> Answers:
    """What a student says."""
    student = read_student(checkpoint)
    encoder = from_checkpoint(checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target)
    logits = encoder.logits(encoder.encode([(text, None) for text in texts])).astype(np.float64)
    if student.heads:
        (head,) = student.heads
        return Answers(head_probs(head, logits), tag_thresholds(head))
    scaled = logits / student.temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return Answers(scaled / scaled.sum(axis=1, keepdims=True))


def teacher_answers(soft_labels: Path, task: AnyTask, texts: list[str]) -> Answers:
    """What the soft labels of the texts say, in the order of the texts."""
    names = question_of(task).label_names
    if isinstance(task, Questionnaire):
        found = {row.text: row.answers[task.questions[0].name] for row in read_soft_answers(soft_labels, task.questions)}
        return Answers(np.array([[found[text].probs[name] for name in names] for text in texts]))  # type: ignore[union-attr]
    plain = {row.text: row.probs for row in read_soft_labels(soft_labels, labels=names)}
    return Answers(np.array([[plain[text][name] for name in names] for text in texts]))


def tfidf(soft_labels: Path, task: AnyTask, texts: list[str]) -> Answers:
    """Logistic regression on TF-IDF, on the texts that the student is trained on; of tags one for each."""
    pairs: list[tuple[str, str | None]] = [(text, None) for text in texts]
    if not isinstance(task, Questionnaire):
        rows = split(read_soft_labels(soft_labels, labels=task.label_names))
        return Answers(tfidf_answers(rows, task.label_names, pairs)[0])
    (question,) = task.questions
    answers = read_soft_answers(soft_labels, task.questions)
    if question.kind != "tags":
        return Answers(tfidf_answers(split(rows_of(answers, question)), question.label_names, pairs)[0])
    tags = [tfidf_answers(split(rows_of(answers, question, tag)), ["yes", "no"], pairs)[0][:, 0] for tag in question.label_names]
    return Answers(np.stack(tags, axis=1))


def split(rows: list[SoftLabel]) -> TrainingRows:
    """The student's own split."""
    return split_rows("soft labels", rows, VALIDATION_SHARE)


def gold_labels(file: Path, task: AnyTask, rows: list[tuple[str, list[str]]]) -> Path:
    """Ten texts a class as soft labels that are certain: what people would have said of them."""
    question, taken, counts = question_of(task), [], dict.fromkeys(question_of(task).label_names, 0)
    for row in rows:
        if min(counts.get(name, 0) for name in row[1]) < N_GOLD:
            taken.append(row)
            counts.update({name: counts[name] + 1 for name in row[1]})
    file.parent.mkdir(parents=True, exist_ok=True)
    made = [certain(f"gold-{i}", text, question, held, task.digest) for i, (text, held) in enumerate(taken)]
    if isinstance(task, Questionnaire):
        write_soft_answers(file, made)
        return file
    plain = [rows_of([row], question)[0] for row in made]
    write_soft_labels(file, plain)
    return file


def certain(name: str, text: str, question: Question, held: list[str], digest: str) -> SoftAnswers:
    """A text whose labels are known."""
    probs = {label: float(label in held) for label in question.label_names}
    votes = {label: int(value) for label, value in probs.items()}
    label = QuestionLabel(probs=probs, votes=votes, agreement=1.0, n_paths=1, entropy=0.0, label_mass=1.0, method="votes")
    return SoftAnswers(id=name, text=text, answers={question.name: label}, teacher_digest="people", task_digest=digest)


def question_of(task: AnyTask) -> Question:
    """The task's only question."""
    if isinstance(task, Questionnaire):
        return task.questions[0]
    return Question(name="answer", question=task.question, labels=task.labels)


# The table


def scored_rows(name: str, kind: Kind, gold: NDArray[np.int64], systems: dict[str, Answers]) -> list[str]:
    """A line of the table for each system, and one for the student minus its teacher."""
    lines = []
    for system, answers in systems.items():
        scores = scores_of(kind, answers.probs, gold, thresholds=answers.thresholds)
        cells = [f"{metric} {scores[metric].as_text()}" for metric in SHOWN[kind]]
        lines.append(f"| {name} | {system} | {len(gold)} | {'; '.join(cells)} |")
    student, teacher, main = systems["student"], systems["teacher"], MAIN[kind]
    if kind == "tags":  # each with its own thresholds, so decisions are compared
        pairs = [(answers.probs >= (answers.thresholds or 0.5)).astype(np.float64) for answers in (student, teacher)]
    else:
        pairs = [student.probs, teacher.probs]
    change = difference_of(kind_metrics(kind)[main], pairs[0], pairs[1], gold)
    lines.append(f"| {name} | student minus teacher | {len(gold)} | {main} {change.as_text()} |")
    return lines


def gold_matrix(question: Question, held: Sequence[list[str]]) -> NDArray[np.int64]:
    """int [N], the label that holds; of tags 0 or 1, [N, C]."""
    names = question.label_names
    if question.kind == "tags":
        return np.array([[int(name in own) for name in names] for own in held])
    return np.array([names.index(own[0]) for own in held])


def run_set(name: str, steps: Steps, found: RealSet, paths: int, say: Callable[[str], None]) -> None:
    """Label, train, score one set."""
    task, short = load_any_task(found.task), name.replace(" ", "-")
    question, texts = question_of(task), [text for text, _ in found.scored]
    pool = label(steps, f"{short}-pool", found.task, found.pool, paths)
    scored = label(steps, f"{short}-scored", found.task, found.scored, paths)
    few = gold_labels(steps.out / "gold" / f"{short}.jsonl", task, found.pool)
    systems = {
        "teacher": teacher_answers(scored, task, texts),
        "student": student_answers(train(steps, short, found.task, pool), texts),
        "TF-IDF on the same soft labels": tfidf(pool, task, texts),
        f"student of {N_GOLD} gold texts a class": student_answers(train(steps, f"{short}-gold", found.task, few), texts),
    }
    for line in scored_rows(name, question.kind, gold_matrix(question, [held for _, held in found.scored]), systems):
        say(line)


def main() -> None:
    """Run all sets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/real_sets"))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--paths", type=int, default=4, help="paths for each text")
    parser.add_argument("--pool", type=int, default=1500, help="texts that students are trained on")
    parser.add_argument("--n", type=int, default=600, help="texts that are scored")
    options = parser.parse_args()
    steps = Steps(options.out.resolve())
    print("| set | system | n | scores |\n| --- | --- | --- | --- |")
    for name in options.sets:
        found = read_set(name, options.data, options.pool, options.n)
        run_set(name, steps, found, options.paths, lambda line: print(line, flush=True))
    print(steps.as_text(), file=sys.stderr)
    print(msgspec.json.encode(steps.seconds).decode(), file=sys.stderr)


if __name__ == "__main__":
    main()
