"""The learning curve of a student: macro-F1 on gold texts against the number of soft labels, and its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.contract.checkpoint import Student
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.trainer.config import as_trained
from potstill.trainer.data.rows import read_rows
from potstill.trainer.data.selection import text_hash
from potstill.trainer.evaluation.checkpoint_scores import gold_classes
from potstill.trainer.report.plot_style import LIGHT, SIZE, Plot, figure, keep
from potstill.trainer.training.loop import TrainProgress
from potstill.trainer.training.student import train_in_memory

SHARES = (0.1, 0.2, 0.5, 1.0)  # of the soft labels


def learning_curve(
    task: Task, student: Student, soft_labels: Path, texts: list[Text], progress: TrainProgress | None = None
) -> list[tuple[int, Score]]:
    """(number of soft labels, macro-F1 on the gold texts) for each share, each of a student trained from the backbone.

    Backbone, loss, seed and tokens are the checkpoint's; all other settings are the defaults of `potstill train`.

    Args:
        soft_labels: the whole file.
        progress: called with ("train", steps done, steps planned, loss of the last step) for each student.
    Raises:
        FormatError: if the file or the backbone is malformed.
        UserError: if the file was made for another task, or the smallest part leaves too little to train on.
    """
    rows, gold = read_rows(soft_labels, task), gold_classes(student, texts)
    points = []
    for share in SHARES:
        part = nested_part(rows, share)
        trained = train_in_memory(f"{soft_labels}, {share:.0%} of it", part, task, as_trained(student), progress)
        probs = trained.probs([(text.text, text.target if student.target else None) for text in texts])
        points.append((len(part), metrics.scores(probs, gold)["macro_f1"]))
    return points


def nested_part(rows: Sequence[SoftLabel], share: float) -> list[SoftLabel]:
    """That share of the rows, 0 to 1, at least one row, in file order.

    The rows are chosen by the hash of their id, so a smaller part lies within every larger one.
    """
    n = max(1, round(share * len(rows)))
    ranked = sorted(range(len(rows)), key=lambda i: text_hash(rows[i].id, "curve"))
    return [rows[i] for i in sorted(ranked[:n])]


def learning_plot(points: Sequence[tuple[int, Score]]) -> Plot:
    """Plot macro-F1 against the number of soft labels. Args: points, at least one, rising."""
    sizes = [n for n, _ in points]
    with figure(SIZE[0], SIZE[1] - 0.5) as drawn:
        axes = drawn.subplots()
        for n, score in points:
            axes.plot([n, n], [score.low, score.high], color=LIGHT["accent"], linewidth=1.4)
        axes.plot(sizes, [score.value for _, score in points], "o-", color=LIGHT["accent"], linewidth=1.4, markersize=6)
        axes.set(
            xlim=(0, sizes[-1] * 1.05), ylim=(0, 1), xlabel="soft labels in the file that was trained on", ylabel="macro-F1 on gold"
        )
        told = "; ".join(f"{n}: {score.as_text()}" for n, score in points)
        return keep(
            drawn,
            "learning-curve",
            title="Would more texts help?",
            caption="The student trained anew on 10, 20, 50 and 100 % of the soft labels, scored on the gold texts; bars are 95 % "
            "intervals over these texts.",
            summary=f"Macro-F1 by number of soft labels. {told}.",
        )
