"""A student's report: gold texts, and whatever is known of the teacher, in; scores, slices, mistakes, terms and plots out.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import TASK_FILE, Student, read_student
from potstill.contract.errors import UserError
from potstill.contract.files import decode
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score, Scores
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import task_from_json
from potstill.contract.texts import Text
from potstill.trainer.evaluation import curves
from potstill.trainer.evaluation.evaluate import gold_classes, predict
from potstill.trainer.report import plots
from potstill.trainer.report.answers import N_ERRORS, Judged, Mistake, Rationales, beside, most_confident
from potstill.trainer.report.learning_curve import learning_curve
from potstill.trainer.report.plot_style import Plot
from potstill.trainer.report.slices import SliceScores, compile_patterns, slice_scores, slices
from potstill.trainer.report.terms import Term, error_terms
from potstill.trainer.training.loop import Progress


@dataclass(frozen=True)
class Sources:
    """What a report is made from; all but the first two may be absent."""

    checkpoint: Path
    texts: list[Text]  # [N], each with a gold label
    soft_labels: Path | None = None  # those that the student was trained on
    teacher: Path | None = None  # those of the gold texts
    bundle_probs: NDArray[np.float64] | None = None  # [N, C]
    rationales: Rationales | None = None  # None: no label store was named


@dataclass(frozen=True)
class ReportConfig:
    """What a person may ask of a report."""

    patterns: Mapping[str, str] = field(default_factory=dict)  # regular expressions by the name of their slice
    n_errors: int = N_ERRORS
    learning_curve: bool = False  # train four times more


@dataclass(frozen=True)
class Scored:
    """Somebody's scores."""

    who: str
    scores: Scores


@dataclass(frozen=True)
class LabelScores:
    """How one label is answered."""

    label: str
    n_gold: int
    n_answers: int
    precision: float | None  # None: it is never answered
    recall: float | None  # None: no text has it
    threshold: float | None


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    task_name: str
    question: str
    student: Student
    n: int
    scored: list[Scored]  # the student first
    differences: list[tuple[str, Score]]  # macro-F1, paired, and between whom
    labels: list[LabelScores]
    slices: list[SliceScores]
    mistakes: list[Mistake]
    n_wrong: int
    terms: list[Term]
    plots: list[Plot]
    notes: list[str]  # what is missing, and how to get it


def build_report(sources: Sources, config: ReportConfig, progress: Progress | None = None) -> Report:
    """Judge the student on the gold texts, from every side.

    Raises:
        FormatError: if the checkpoint or a file of soft labels is malformed.
        UserError: if a gold label or target does not fit the student, a pattern is no regular expression, or there are no soft
            labels for a learning curve.
    """
    patterns = compile_patterns(config.patterns)
    if config.learning_curve and sources.soft_labels is None:
        raise UserError("a learning curve trains on the soft labels; name their file with --soft-labels")
    student = read_student(sources.checkpoint)
    path = sources.checkpoint / TASK_FILE
    task = task_from_json(path, decode.read_bytes(path))
    gold = gold_classes(student, sources.texts)
    training, known = (_soft_labels(path, student) for path in (sources.soft_labels, sources.teacher))
    probs = predict(sources.checkpoint, sources.texts)
    judged = Judged(task, sources.texts, gold, probs, beside(sources.texts, known))
    if known and not judged.taught.any():
        raise UserError(f"{sources.teacher}: labels none of the {len(gold)} gold texts; give the file of soft labels made for them")
    scored, differences = _scores(judged, sources.bundle_probs)
    drawn = _plots(judged, student, training, known)
    if config.learning_curve and sources.soft_labels is not None:  # it says more than the losses of one run
        drawn = [plot for plot in drawn if plot.name != "validation-loss"]
        drawn.append(plots.learning_plot(learning_curve(task, student, sources.soft_labels, sources.texts, progress)))
    return Report(
        task_name=task.name,
        question=task.question,
        student=student,
        n=len(gold),
        scored=scored,
        differences=differences,
        labels=_label_scores(judged, student),
        slices=[slice_scores(judged, part) for part in slices(judged, patterns)],
        mistakes=most_confident(judged, sources.rationales or {}, config.n_errors),
        n_wrong=int((~judged.right).sum()),
        terms=error_terms(judged),
        plots=drawn,
        notes=_notes(sources, judged),
    )


def _soft_labels(path: Path | None, student: Student) -> list[SoftLabel]:
    """The file's rows, made for the student's task; none without a file."""
    if path is None:
        return []
    rows = read_soft_labels(path, labels=student.labels)
    if other := next((row for row in rows if row.task_digest != student.task_digest), None):
        raise UserError(
            f"{path}: made for another version of task {student.task_name!r} (digest {other.task_digest[:12]}…, the student's is "
            f"{student.task_digest[:12]}…); give the soft labels of the student's own task"
        )
    return rows


def _scores(judged: Judged, bundle_probs: NDArray[np.float64] | None) -> tuple[list[Scored], list[tuple[str, Score]]]:
    """Scores of everybody on all texts that they answered, and paired differences on those that both did."""
    scored = [Scored("student", metrics.scores(judged.probs, judged.gold))]
    differences = []
    if judged.taught.any():
        teacher, gold = judged.teacher_probs(), judged.gold[judged.taught]
        scored.append(Scored("teacher", metrics.scores(teacher, gold)))
        pair = metrics.difference(metrics.macro_f1, judged.probs[judged.taught], teacher, gold)
        differences.append(("student minus teacher", pair))
    if bundle_probs is not None:
        scored.append(Scored("int8 bundle", metrics.scores(bundle_probs, judged.gold)))
        pair = metrics.difference(metrics.macro_f1, bundle_probs, judged.probs, judged.gold)
        differences.append(("bundle minus student", pair))
    return scored, differences


def given(judged: Judged, student: Student) -> NDArray[np.bool_]:
    """bool [N, C]: the label that each text is answered with; none where the threshold of its most probable label is not met."""
    least = np.array([(student.thresholds or {}).get(name, 0.0) for name in judged.labels])
    best = np.eye(len(judged.labels), dtype=bool)[judged.answers]
    return np.asarray(best & (judged.probs >= least))


def _label_scores(judged: Judged, student: Student) -> list[LabelScores]:
    """Precision and recall of the answers that are given."""
    answered = given(judged, student)
    found = []
    for i, name in enumerate(judged.labels):
        n_gold, n_answers = int((judged.gold == i).sum()), int(answered[:, i].sum())
        n_right = int((answered[:, i] & (judged.gold == i)).sum())
        threshold = (student.thresholds or {}).get(name)
        precision, recall = (n_right / n if n else None for n in (n_answers, n_gold))
        found.append(LabelScores(name, n_gold, n_answers, precision, recall, threshold))
    return found


def _plots(judged: Judged, student: Student, training: Sequence[SoftLabel], known: Sequence[SoftLabel]) -> list[Plot]:
    """All plots that the sources allow."""
    answered = given(judged, student)
    lines = [
        curves.precision_recall(name, judged.probs[:, i], judged.gold == i, answered[:, i])
        for i, name in enumerate(judged.labels)
        if (judged.gold == i).any()
    ]
    drawn = [
        plots.confusion_plot(curves.confusion(judged.gold, judged.answers, len(judged.labels)), judged.labels),
        plots.precision_recall_plot(lines, thresholds=bool(student.thresholds)),
        plots.reliability_plot(judged.probs, judged.gold),
    ]
    if 0 < student.kept_epoch <= len(student.validation_losses):
        drawn.append(plots.losses_plot(student.validation_losses, student.kept_epoch))
    if rows := training or known:
        drawn.append(plots.agreement_plot(rows, "training texts" if training else "gold texts"))
    return drawn


def _notes(sources: Sources, judged: Judged) -> list[str]:
    """What this report had to leave out."""
    n_taught, n = int(judged.taught.sum()), len(judged.texts)
    notes = []
    if not n_taught:
        notes.append(
            "Without soft labels of the gold texts (--teacher) there is no teacher to compare with and no slice by agreement."
        )
    elif n_taught < n:
        notes.append(f"The teacher labelled {n_taught} of the {n} gold texts; its scores and slices are over those.")
    if sources.rationales is None:
        notes.append("Without the label store (--store) the mistakes stand without the teacher's rationales.")
    elif not any((text.text, text.target or None) in sources.rationales for text in sources.texts):
        notes.append(
            "The label store has no rationale about these texts: the teacher answered directly, or was not asked about them."
        )
    if sources.bundle_probs is None:
        notes.append("Without a bundle (--bundle) the scores are those of the float student.")
    return notes
