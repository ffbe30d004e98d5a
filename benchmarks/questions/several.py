"""How long four questions about posts take against one of them, and whether sharing a text's decoding changes an answer.

    python benchmarks/questions/several.py POSTS.jsonl.gz [--texts 200] [--paths 4] [--turns 5] [--threads 2]

Four and one take turns over the same texts with the same number of paths, mode direct, each into a new store, with one open
teacher; each turn includes decoding the prompts' prefixes. The ratio is the geometric mean over the turns with a 95 % t interval.
Then 60 texts are asked again through the very same prompts, each question alone, and once more together in another order.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import t as student_t

from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.prompts.several import asked_together, shared_variants
from potstill.labeler.run.label import label
from potstill.labeler.run.questions import QuestionsJob, label_questions
from potstill.labeler.teacher import PathRequest, QuestionRequests, TeacherPath
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local

TASK = Path(__file__).with_name("task.toml")
FIXED = LocalConfig(n_batch=512, n_live_paths=24, flash_attention=False)  # the same for all turns
N_COMPARED = 60


def main() -> None:
    """Time, compare, print."""
    options = arguments()
    task = load_any_task(TASK)
    if not isinstance(task, Questionnaire):
        raise SystemExit(f"{TASK}: asks one question only")
    texts = read(options.posts, options.texts)
    config = LabelConfig(mode="direct", n_paths=options.paths)
    teacher = open_local(options.teacher, config=replace(FIXED, n_threads=options.threads))
    try:
        seconds = np.array([turn(task, texts, config, teacher) for _ in range(options.turns + 1)])[1:]  # the first one warms up
        report(seconds, len(texts), options.paths)
        compare(task, texts[:N_COMPARED], config, teacher)
    finally:
        teacher.close()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("posts", type=Path, help="JSON lines with the field text, gzip-compressed")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    return parser.parse_args()


def read(path: Path, n: int) -> list[Text]:
    """The first n texts."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [Text(json.loads(line)["text"], str(i)) for i, line in zip(range(n), file, strict=False)]


def turn(task: Questionnaire, texts: list[Text], config: LabelConfig, teacher: LocalTeacher) -> tuple[float, float]:
    """Seconds of (all questions, the first one alone)."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        label_questions(QuestionsJob(task, Path(folder, "four.db"), config), texts, teacher)
        between = time.perf_counter()
        label(task.asks()[0].task, texts, Path(folder, "one.db"), teacher, config)
        return between - began, time.perf_counter() - between


def report(seconds: np.ndarray, n_texts: int, n_paths: int) -> None:
    """Print the times and their ratio. Args: float [turns, 2]."""
    for four, one in seconds:
        print(f"four questions {four:.1f} s, one {one:.1f} s, ratio {four / one:.3f}")
    logs = np.log(seconds[:, 0] / seconds[:, 1])
    half = student_t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    per_text = seconds.mean(axis=0) / n_texts * 1000
    print(
        f"{n_texts} texts, {n_paths} paths, {len(logs)} turns: {per_text[0]:.0f} ms a text for four, {per_text[1]:.0f} ms for one"
    )
    print(f"ratio {middle:.2f} ({low:.2f}-{high:.2f})")


def compare(task: Questionnaire, texts: list[Text], config: LabelConfig, teacher: LocalTeacher) -> None:
    """Print how far probabilities of label words differ: together against alone, and together against itself in another order."""
    (forks,) = asked_together(task)
    variant = shared_variants(task, forks, config)[0]
    asked = [
        QuestionRequests(
            fork.key, variant.specs[place], [PathRequest(text.id, variant.prompt(text, place), (0,)) for text in texts]
        )
        for place, fork in enumerate(forks)
    ]
    together = probs(teacher.answer_together(variant.prefix, 0, asked, 0))
    turned = [QuestionRequests(one.question, one.spec, one.requests[::-1]) for one in reversed(asked)]
    again = probs(teacher.answer_together(variant.prefix, 0, turned, 0))
    alone = {}
    for one in asked:
        found = probs(teacher.answer(variant.prefix, 0, one.requests, one.spec, 0))
        alone |= {(one.question, text_id): values for (_, text_id), values in found.items()}
    for name, others in (("each question alone", alone), ("together in another order", again)):
        apart = np.array([np.abs(together[key] - others[key]).max() for key in together])
        far = np.quantile(apart, 0.99)
        print(f"together against {name}: mean {apart.mean():.4f}, 99th percentile {far:.4f}, {len(apart)} answers")


def probs(results: object) -> dict[tuple[str, str], np.ndarray]:
    """Probabilities of the label words, by question and text."""
    paths = [path for path in results if isinstance(path, TeacherPath)]  # type: ignore[attr-defined]
    return {(path.question, path.text_id): np.exp(path.word_logprobs) for path in paths}


if __name__ == "__main__":
    main()
