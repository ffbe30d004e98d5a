"""What one student of several questions loses against a student for each of them, and what a bundle of four costs over one.

    python benchmarks/questions/joint.py rules AG_NEWS FOLDER [--n 4000]
    python benchmarks/questions/joint.py compare TASK SOFT_LABELS [--seeds 3] [--ordinal WEIGHT ...] [--family encoder]
    python benchmarks/questions/joint.py bundles TASK SOFT_LABELS FOLDER
    python benchmarks/questions/joint.py time FOLDER TEXTS [--rounds 12]

`rules` writes a task of four kinds about news, and labels that need no teacher: the topic is the set's own gold, the others follow
from words of the text. So few of the differences that `compare` finds are noise of labels.
TASK asks several questions; SOFT_LABELS are its soft labels, as `potstill label` writes them. `compare` sets a share of the texts
aside by their hash, trains on the others, and scores both kinds of student against the teacher's majority answers on those aside:
the main metric of each question's kind, mean over seeds, and the paired difference with a 95 % bootstrap interval over texts. Other
weights of the ordinal loss are trained in turn. `bundles` exports the joint student and the first question's own one, and `time`
answers the same texts with the two in turns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.questions.head import ranges
from potstill.contract.questions.kind_scores import MAIN, kind_metrics
from potstill.contract.questions.probabilities import decided, head_probs
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers, rows_of, write_soft_answers
from potstill.contract.soft_label import entropy, write_soft_labels
from potstill.contract.texts import text_id
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import majorities, places_of, select_answers
from potstill.trainer.data.selection import text_hash
from potstill.trainer.joint import losses
from potstill.trainer.joint.student import JointTraining, texts_of, train_joint
from potstill.trainer.run import train
from potstill.trainer.students.start import find_start
from potstill.trainer.training.student import TrainingJob, train_in_memory

NEWS = """
format = 2
name = "news"
[input]
noun = "News"
[[questions]]
name = "topic"
question = "What is it about?"
labels = [{ name = "world" }, { name = "sports" }, { name = "business" }, { name = "sci_tech" }]
[[questions]]
name = "price"
kind = "yesno"
question = "Does it name an amount of money or a percentage?"
[[questions]]
name = "names"
kind = "tags"
question = "Does it mention {tag}?"
labels = [{ name = "a government" }, { name = "a company" }, { name = "a win or a loss" }, { name = "an attack" }]
[[questions]]
name = "numbers"
kind = "degree"
question = "How many numbers does it have?"
labels = [{ name = "none" }, { name = "one or two" }, { name = "more" }]
"""
PRICE = re.compile(r"[$%€£]|\b(?:percent|dollars?|euros?|cents?)\b", re.I)
NAMES = (
    re.compile(r"\b(?:president|minister|premier|chancellor)\b", re.I),
    re.compile(r"\b(?:inc|corp|co|ltd|plc|company|companies|firm)\b", re.I),
    re.compile(r"\b(?:win|wins|won|beat|beats|victory|loss|lost|defeat\w*)\b", re.I),
    re.compile(r"\b(?:war|attack\w*|bomb\w*|kill\w*|troops|soldiers?)\b", re.I),
)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SURE = 0.9  # probability of a label that a rule gives
N_RESAMPLES = 1000
Floats = NDArray[np.float64]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rules", "compare", "bundles", "time"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--family", default="encoder")
    parser.add_argument("--aside", type=float, default=0.25, help="share of the texts that is scored and not trained on")
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--ordinal", type=float, nargs="+", default=[losses.ORDINAL_WEIGHT])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "rules":
        write_rules(options.paths[0], options.paths[1], options.n)
        return
    if options.what == "time":
        time_bundles(options.paths[0], options.paths[1], options.rounds)
        return
    task = load_any_task(options.paths[0])
    if not isinstance(task, Questionnaire):
        raise SystemExit(f"{options.paths[0]}: asks one choice; this is about several questions")
    rows = read_soft_answers(options.paths[1], task.questions)
    config = TrainConfig(family=options.family, threads=options.threads)
    if options.what == "bundles":
        write_bundles(task, rows, options.paths[2], config)
        return
    training = [row for row in rows if not is_set_aside(row, options.aside)]
    aside = [row for row in rows if is_set_aside(row, options.aside)]
    seeds = range(options.seeds)
    print(f"{len(training)} texts to train on, {len(aside)} set aside; {options.seeds} seeds; family {options.family}", flush=True)
    own = {question.name: [own_answers(task, question, training, aside, config, s) for s in seeds] for question in task.questions}
    for weight in options.ordinal:
        losses.ORDINAL_WEIGHT = weight
        joint = [joint_answers(task, training, aside, config, seed) for seed in seeds]
        print(f"\nordinal loss weighs {weight:g}")
        for question in task.questions:
            print(line(question, aside, [one[question.name] for one in joint], own[question.name]), flush=True)


def write_rules(folder: Path, out: Path, n: int) -> None:
    """Write `task.toml` and `soft_labels.jsonl` of the news. Args: folder, of the news; n, texts."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "task.toml").write_text(NEWS, encoding="utf-8")
    task = load_any_task(out / "task.toml")
    if not isinstance(task, Questionnaire):
        raise TypeError("the news ask several questions")
    with gzip.open(folder / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        news = {row["text"]: row["label"] for row in map(json.loads, file)}
    chosen = sorted(news, key=lambda text: text_hash(text, "order"))[:n]
    rows = []
    for text in chosen:
        n_numbers = len(NUMBER.findall(text))
        right = {
            "topic": [news[text]],
            "price": ["yes" if PRICE.search(text) else "no"],
            "names": [tag for tag, found in zip(task.find("names").label_names, NAMES, strict=True) if found.search(text)],
            "numbers": ["none" if not n_numbers else "one or two" if n_numbers < 3 else "more"],
        }
        answers = {question.name: ruled(question, right[question.name]) for question in task.questions}
        rows.append(
            SoftAnswers(id=text_id(text, None), text=text, answers=answers, teacher_digest="rules", task_digest=task.digest)
        )
    write_soft_answers(out / "soft_labels.jsonl", rows)
    for question in task.questions:
        print(question.name, majorities(rows, question).mean(axis=0))


def ruled(question: Question, right: list[str]) -> QuestionLabel:
    """What is known about a question: these labels hold, with a probability of `SURE`."""
    names = question.label_names
    rest = 1 - SURE if question.kind == "tags" else (1 - SURE) / (len(names) - 1)
    probs = {name: SURE if name in right else rest for name in names}
    return QuestionLabel(
        probs=probs, votes={name: 10 * (name in right) for name in names}, agreement=1.0, n_paths=10,
        entropy=entropy(list(probs.values())), label_mass=1.0, method="rules",
    )  # fmt: skip


def is_set_aside(row: SoftAnswers, share: float) -> bool:
    """Whether a text is scored and not trained on."""
    return text_hash(row.text, "aside") < share * 2**64


def joint_answers(
    task: Questionnaire, training: list[SoftAnswers], aside: list[SoftAnswers], config: TrainConfig, seed: int
) -> dict[str, Floats]:
    """By question, what a student of all questions says about the texts: probabilities, and of tags whether each holds."""
    made = trained(task, training, config, seed)
    logits = made.encoder.logits(made.encoder.encode(texts_of(aside)))
    heads = [one.head for one in made.calibrations]
    found = {}
    for head, outputs in zip(heads, ranges(heads), strict=True):
        probs = head_probs(head, logits[:, outputs])
        found[head.name] = probs if head.is_softmax else decided(head, probs).astype(np.float64)
    return found


def own_answers(
    task: Questionnaire, question: Question, training: list[SoftAnswers], aside: list[SoftAnswers], config: TrainConfig, seed: int
) -> Floats:
    """The same from a student of this question alone."""
    if question.kind == "choice":
        alone = task.asks_of(question)[0].task
        made = train_in_memory("soft labels", rows_of(training, question), alone, changed(config, seed))
        return made.probs([(row.text, row.target) for row in aside])
    return joint_answers(alone_of(task, question), training_of(training, question), aside, config, seed)[question.name]


def trained(task: Questionnaire, training: list[SoftAnswers], config: TrainConfig, seed: int) -> JointTraining:
    """A student of all questions of the task."""
    settings = changed(config, seed)
    rows = select_answers("soft labels", training, task.questions, settings.validation_share, settings.min_agreement)
    return train_joint(TrainingJob(task, find_start(settings), settings), task, rows)


def changed(config: TrainConfig, seed: int) -> TrainConfig:
    """The settings with another seed."""
    return TrainConfig(family=config.family, threads=config.threads, seed=seed)


def alone_of(task: Questionnaire, question: Question) -> Questionnaire:
    """The task of one question."""
    return Questionnaire(format=2, name=question.name, questions=[question], input=task.input)


def training_of(rows: list[SoftAnswers], question: Question) -> list[SoftAnswers]:
    """The rows with the answer to one question alone."""
    fields = SoftAnswers.__struct_fields__
    return [
        SoftAnswers(**{**{name: getattr(row, name) for name in fields}, "answers": {question.name: row.answers.get(question.name)}})
        for row in rows
    ]


def line(
    question: Question,
    aside: list[SoftAnswers],
    joint: Sequence[Floats],
    own: Sequence[Floats],
    name: str = "",
    *,
    other: str = "own",
) -> str:
    """The scores of both, and their paired difference. Args: name, of a metric; other, who is not joint."""
    places, gold = places_of(aside, question), majorities(aside, question)
    values = question.level_values if question.kind == "degree" else None
    name = name or MAIN[question.kind]
    metric = kind_metrics(question.kind, values=values)[name]
    mean = [np.mean([metric(probs[places], gold) for probs in side]) for side in (joint, own)]
    rng, changes = np.random.default_rng(0), []
    for _ in range(N_RESAMPLES):
        draw = rng.integers(0, len(places), len(places))
        both = [np.mean([metric(probs[places][draw], gold[draw]) for probs in side]) for side in (joint, own)]
        changes.append(both[0] - both[1])
    low, high = np.nanpercentile(changes, [2.5, 97.5])
    return (
        f"{question.name} ({question.kind}), {name}, n {len(places)}: joint {mean[0]:.4f}, {other} {mean[1]:.4f}, "
        f"joint minus {other} {100 * (mean[0] - mean[1]):+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    )


def write_bundles(task: Questionnaire, rows: list[SoftAnswers], folder: Path, config: TrainConfig) -> None:
    """Train and export both students, as `four` and `one`."""
    first = task.questions[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        four, one = Path(work, "four.jsonl"), Path(work, "one.jsonl")
        write_soft_answers(four, rows)
        alone = task.asks_of(first)[0].task
        fields = type(rows_of(rows[:1], first)[0]).__struct_fields__
        single = [
            type(row)(**{**{name: getattr(row, name) for name in fields}, "task_digest": alone.digest})
            for row in rows_of(rows, first)
        ]
        write_soft_labels(one, single)
        for name, about, labels in (("four", task, four), ("one", alone, one)):
            print(train(about, labels, folder / f"student-{name}", config).as_text())
            print(export_bundle(folder / f"student-{name}", folder / name, ExportConfig(threads=config.threads or 1)).as_text())


def time_bundles(folder: Path, texts: Path, rounds: int) -> None:
    """Answer the texts with both bundles in turns, each at its best of the rounds, which other programs disturb least."""
    asked = [json.loads(row)["text"] for row in texts.read_text(encoding="utf-8").splitlines()][:400]
    with Classifier.open(folder / "four") as four, Classifier.open(folder / "one") as one:
        for manifest in (four.manifest, one.manifest):
            print(f"{manifest.variant}, {len(manifest.labels)} outputs")
        ms = {"four": np.full(len(asked), np.inf), "one": np.full(len(asked), np.inf)}
        for number in range(rounds + 1):
            for i, text in enumerate(asked):
                pair = [("four", four), ("one", one)]
                for name, classifier in pair if (i + number) % 2 else pair[::-1]:
                    began = time.perf_counter()
                    classifier.classify([text])
                    took = 1000 * (time.perf_counter() - began)
                    if number:  # the first round warms up
                        ms[name][i] = min(ms[name][i], took)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(asked), len(asked)) for _ in range(N_RESAMPLES)]
    low, high = np.percentile([np.median(ms["four"][draw] / ms["one"][draw]) for draw in draws], [2.5, 97.5])
    print(
        f"p50 of {len(asked)} texts, each the best of {rounds}: four {np.median(ms['four']):.3f} ms, "
        f"one {np.median(ms['one']):.3f} ms; median ratio of a text {np.median(ms['four'] / ms['one']):.4f} [{low:.4f}, {high:.4f}]"
    )


if __name__ == "__main__":
    main()
