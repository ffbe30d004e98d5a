"""What proposed rules are worth: how many pass the gate, how often they are right, what they add, if a person accepts all.

    python benchmarks/weak/proposals.py DATA [--out out/weak] [--sets reddit phrasebank] [--threads 1]

Takes the stores that benchmarks/weak/sources.py wrote to the same folder. Rules are proposed from the labels of the teacher in
Q4_0, by words and by the teacher itself. Gold labels are looked at for scores only. Prints a Markdown table; intervals are 95 %.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from potstill.contract.scores import metrics
from potstill.contract.task import Task, load_task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.weak_supervision.combination import combined, refined_combination
from potstill.labeler.weak_supervision.config import CombineConfig, ProposeConfig
from potstill.labeler.weak_supervision.figures import combination_scores
from potstill.labeler.weak_supervision.proposals.gate import JudgedRule
from potstill.labeler.weak_supervision.sources.rules import rule_votes
from potstill.labeler.weak_supervision.votes import source_votes, vote_table
from potstill.workflows.labels.rules import propose_rules
from potstill.workflows.labels.sources import SourceConfig, gathered

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sources import HERE, PACKS, SETS, arguments

PACK = PACKS[1]


def main() -> None:
    """Propose and judge rules of both kinds for every set, and print their worth."""
    options = arguments(__doc__ or "")
    print("| set | proposed by | proposed | passed | votes of those that passed that are right | of the others | ", end="")
    print("teacher and these: macro-F1 | gain over the teacher |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.sets:
        for by in ("words", "teacher"):
            show(name, by, options.out, TeacherConfig(pack=PACK, threads=options.threads))


def show(name: str, by: str, out: Path, teacher: TeacherConfig) -> None:
    """One row of the table."""
    path, store = HERE / SETS[name].task, out / f"{name}_{PACK}" / "labels.db"
    with tempfile.TemporaryDirectory() as folder:
        record = propose_rules(path, store, Path(folder) / "rules.json", ProposeConfig(by=by), teacher)  # type: ignore[arg-type]
    task, space = load_task(path), TextSpace(DeriveConfig.backbone)
    found = gathered(task, path, store, SourceConfig(gold=str(out / f"{name}_gold.jsonl")), DeriveConfig(), space)
    texts = found.votes.texts
    passed = [row for row in record.rules if row.passed]
    judged = f"{len(record.rules)} | {len(passed)} | {right(task, texts, passed)} | "
    others = right(task, texts, [row for row in record.rules if not row.passed])
    print(f"| {name} | {by} | {judged}{others} | ", end="")
    if not passed:
        print("- | - |", flush=True)
        return
    rules = rule_votes([row.rule for row in passed], texts, task.label_names)
    votes = vote_table(texts, task.label_names, [found.votes.find("teacher"), *rules])
    alone = source_votes(
        "teacher", "teacher", texts, task.label_names, {i: dict(r.probs) for i, r in found.alone["teacher"].items()}
    )
    both = refined_combination(combined(votes, CombineConfig()), texts, space.vectors(texts))
    scores = combination_scores(votes, both, gold_of(task, texts), {"teacher": alone})
    if scores is not None and scores.teacher is not None:
        print(f"{scores.macro_f1.as_text()} | {scores.teacher.gain.as_text()} |", flush=True)


def right(task: Task, texts: list[Text], rows: list[JudgedRule]) -> str:
    """Share of the rules' votes on gold texts that are right, with its interval over votes."""
    votes = rule_votes([row.rule for row in rows], texts, task.label_names)
    gold = gold_of(task, texts)
    labels = np.concatenate([np.zeros(0, np.int64), *(gold[source.voted] for source in votes)])
    probs = np.concatenate([np.zeros((0, len(task.labels))), *(source.probs[source.voted] for source in votes)])
    return f"{metrics.score(metrics.accuracy, probs, labels).as_text()} of {len(labels)}" if len(labels) else "-"


def gold_of(task: Task, texts: list[Text]) -> np.ndarray:
    """The index of each text's gold label, int [N]."""
    return np.array([task.label_names.index(text.gold or "") for text in texts])


if __name__ == "__main__":
    main()
