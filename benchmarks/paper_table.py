"""The table of arXiv 2212.11311 on real data: teacher, students and baselines on Reddit posts and on unseen sets.

    python benchmarks/paper_table.py --data DATA [--out out/paper_table] [--n 6000] [--n-more 40000] [--paths 3] [--pack Q4_0]
        [--ready-made FOLDER] [--rows NAME ...] [--sets NAME ...]

DATA holds the folders that `benchmarks/gold_sets.py` names: gzip-compressed JSON lines with text and label. The task is the
example's own, unchanged. Students are trained only on the teacher's labels of the unlabelled Reddit pool, so every column but the
first shows transfer; gold labels are used for scores only. Every step keeps its result, so that an interrupted run can be resumed.
Prints the table as Markdown, and the seconds of each step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gold_sets import SETS, reddit_pool, reddit_rest
from student_table import ROOT, STUDENTS, Column, Plan, Steps, fill_table

TASK = ROOT / "examples" / "market_stance" / "task.toml"
MAP = {"positive": "bullish", "negative": "bearish"}  # for sets labelled with sentiment


def main() -> None:
    """Run all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/paper_table"))
    parser.add_argument("--n", type=int, default=6000, help="texts of the pool")
    parser.add_argument(
        "--n-more", type=int, default=40000, help="largest number of further texts, labelled by a student for smaller ones"
    )
    parser.add_argument("--paths", type=int, default=3, help="paths for each text")
    parser.add_argument("--pack", default="Q4_0")
    parser.add_argument("--ready-made", action="append", default=[], help="folder of a ready-made classifier")
    parser.add_argument("--rows", nargs="*", choices=list(STUDENTS), default=list(STUDENTS))
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    options = parser.parse_args()
    steps = Steps(options.out.resolve())
    asked: list[object] = ["--mode", "direct", "--paths", options.paths, "--pack", options.pack]
    unlabelled = reddit_pool(options.data, options.n)
    pool = steps.labels("pool", TASK, unlabelled, asked)
    more = steps.texts("rest", reddit_rest(options.data, options.n_more, unlabelled))
    columns: dict[str, Column] = {}
    for name in options.sets:
        texts = SETS[name](options.data)
        gold, teacher = steps.gold(name, texts), steps.labels(name, TASK, texts, asked)
        labels = {text.gold for text in texts}
        renamed = ",".join(f"{given}={label}" for given, label in MAP.items() if given in labels)
        columns[name] = Column(gold, teacher, renamed)
        if name.startswith("FiQA"):
            columns[f"{name}, binary"] = Column(gold, teacher, f"{renamed},neutral=")
    students = {row: STUDENTS[row] for row in options.rows}
    print(fill_table(steps, Plan(TASK, pool, columns, students, ["majority", "tfidf", *options.ready_made], more)))
    print(steps.as_text(), file=sys.stderr)


if __name__ == "__main__":
    main()
