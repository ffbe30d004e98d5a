"""A task outside finance, from texts to students: topics of AG News, with the embedded teacher.

    python benchmarks/second_task.py --data DATA [--out out/second_task] [--paths 3] [--pack Q4_0] [--rows NAME ...]

DATA holds `ag_news`: gzip-compressed JSON lines with text and label. The pool is the training split without its labels, and the
development split is for scores. An interrupted run can be resumed. Prints the table as Markdown, and the seconds of each step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gold_sets import split_of
from student_table import STUDENTS, Column, Plan, Steps, fill_table

TASK = Path(__file__).resolve().parent / "questions" / "news_topic.toml"
ROWS = ("student, cls", "student, reg", "student, soft_ce")


def main() -> None:
    """Run all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/second_task"))
    parser.add_argument("--paths", type=int, default=3, help="paths for each text")
    parser.add_argument("--pack", default="Q4_0")
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    options = parser.parse_args()
    steps = Steps(options.out.resolve())
    asked: list[object] = ["--mode", "direct", "--paths", options.paths, "--pack", options.pack]
    texts = split_of("ag_news", "dev")(options.data)
    gold, teacher = steps.gold("AG News", texts), steps.labels("AG News", TASK, texts, asked)
    scored = {text.text for text in texts}
    unlabelled = [text for text in split_of("ag_news", "train")(options.data) if text.text not in scored]
    pool = steps.labels("pool", TASK, unlabelled, asked)
    students = {row: STUDENTS[row] for row in options.rows}
    print(fill_table(steps, Plan(TASK, pool, {"AG News": Column(gold, teacher)}, students)))
    print(steps.as_text(), file=sys.stderr)


if __name__ == "__main__":
    main()
