"""The table of arXiv 2212.11311 on real data: teacher, students and baselines on Reddit posts, and on other sets unseen.

    python benchmarks/paper_table.py --data DATA [--out out/paper_table] [--n 6000] [--n-more 40000] [--paths 3] [--pack Q4_0]
        [--ready-made FOLDER] [--rows NAME ...] [--sets NAME ...]

DATA holds the folders that `benchmarks/gold_sets.py` names: gzip-compressed JSON lines with text and label. The task is the
example's own, unchanged. Students are trained on the teacher's labels of the unlabelled Reddit pool alone, so every column but the
first shows transfer; gold is used for scores only. Every step writes a file or folder of its own and is left out
where that is there: a run that was stopped goes on where it was. Prints the table as Markdown, and how long each step took.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gold_sets import SETS, reddit_pool, reddit_rest
from steps import ROOT, Steps
from student_table import STUDENTS, Column, Plan, filled

TASK = ROOT / "examples" / "market_stance" / "task.toml"
MAP = {"positive": "bullish", "negative": "bearish"}  # of the sets that name a mood


def main() -> None:
    """Everything, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/paper_table"))
    parser.add_argument("--n", type=int, default=6000, help="texts of the pool")
    parser.add_argument("--n-more", type=int, default=40000, help="further texts at most, which a student labels for smaller ones")
    parser.add_argument("--paths", type=int, default=3, help="of each text")
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
    print(filled(steps, Plan(TASK, pool, columns, students, ["majority", "tfidf", *options.ready_made], more)))
    print(steps.as_text(), file=sys.stderr)


if __name__ == "__main__":
    main()
