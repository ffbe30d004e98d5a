"""Build a student's report from gold texts and, where given, the teacher's soft labels: scores, slices, mistakes, terms, plots.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from potstill.trainer.config import ReportConfig
from potstill.trainer.evaluation import curves
from potstill.trainer.evaluation.checkpoint_scores import gold_classes, predict
from potstill.trainer.report import plots
from potstill.trainer.report.answers import (
    AnsweredTexts,
    Mistake,
    Rationales,
    match_soft_labels,
    most_confident_mistakes,
)
from potstill.trainer.report.learning_curve import learning_curve, learning_plot
from potstill.trainer.report.plot_style import Plot
from potstill.trainer.report.slices import SliceScores, compile_patterns, slice_scores, slices
from potstill.trainer.report.stages import NO_STAGES, Stages
from potstill.trainer.report.terms import MistakeTerm, mistake_terms
from potstill.trainer.training.loop import TrainProgress


@dataclass(frozen=True)
class ReportSources:
    """The inputs of a report; all but the first two are optional."""

    checkpoint: Path
    texts: list[Text]  # [N], each with a gold label
    soft_labels: Path | None = None  # that the student was trained on
    teacher: Path | None = None  # soft labels of the gold texts
    bundle_probs: NDArray[np.float64] | None = None  # [N, C]
    rationales: Rationales | None = None  # None: no label store was named
    stages: Stages = NO_STAGES  # what a project's folder holds of each stage
    notes: tuple[str, ...] = ()  # on what of these is missing
    plots: tuple[Plot, ...] = ()  # further ones, drawn already


@dataclass(frozen=True)
class SystemScores:
    """The scores of student, teacher or bundle."""

    who: str
    scores: Scores


@dataclass(frozen=True)
class LabelScores:
    """Precision and recall of one label."""

    label: str
    n_gold: int
    n_answers: int
    precision: float | None  # None: the label is never answered
    recall: float | None  # None: no text has the label
    threshold: float | None


@dataclass(frozen=True)
class Report:
    """The contents of the page."""

    task_name: str
    question: str
    student: Student
    n: int
    scored: list[SystemScores]  # the student first
    differences: list[tuple[str, Score]]  # (which two, paired difference of macro-F1)
    labels: list[LabelScores]
    slices: list[SliceScores]
    mistakes: list[Mistake]
    n_wrong: int
    terms: list[MistakeTerm]
    plots: list[Plot]
    notes: list[str]  # on what is missing, and how to add it
    stages: Stages = NO_STAGES


def build_report(sources: ReportSources, config: ReportConfig, progress: TrainProgress | None = None) -> Report:
    """Evaluate the student on the gold texts.

    Args:
        progress: called with (stage, steps done, steps planned, loss of the last step) if a learning curve is trained.

    Raises:
        FormatError: if the checkpoint or a file of soft labels is malformed.
        UserError: if a gold label or target does not fit the student, a pattern is not a regular expression, or there are no soft
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
    answered = AnsweredTexts(task, sources.texts, gold, probs, match_soft_labels(sources.texts, known))
    if known and not answered.has_soft_label.any():
        raise UserError(f"{sources.teacher}: labels none of the {len(gold)} gold texts; give the file of soft labels made for them")
    scored, differences = _scores(answered, sources.bundle_probs)
    drawn = _plots(answered, student, training, known)
    if config.learning_curve and sources.soft_labels is not None:  # more informative than the losses of one run
        drawn = [plot for plot in drawn if plot.name != "validation-loss"]
        drawn.append(learning_plot(learning_curve(task, student, sources.soft_labels, sources.texts, progress)))
    return Report(
        task_name=task.name,
        question=task.question,
        student=student,
        n=len(gold),
        scored=scored,
        differences=differences,
        labels=_label_scores(answered, student),
        slices=[slice_scores(answered, part) for part in slices(answered, patterns)],
        mistakes=most_confident_mistakes(answered, sources.rationales or {}, config.n_mistakes),
        n_wrong=int((~answered.right).sum()),
        terms=mistake_terms(answered),
        plots=[*drawn, *sources.plots],
        notes=[*_notes(sources, answered), *sources.notes],
        stages=sources.stages,
    )


def _soft_labels(path: Path | None, student: Student) -> list[SoftLabel]:
    """The file's rows, which must be made for the student's task; none without a file."""
    if path is None:
        return []
    rows = read_soft_labels(path, labels=student.labels)
    if other := next((row for row in rows if row.task_digest != student.task_digest), None):
        raise UserError(
            f"{path}: made for another version of task {student.task_name!r} (digest {other.task_digest[:12]}…, the student's is "
            f"{student.task_digest[:12]}…); give the soft labels of the student's own task"
        )
    return rows


def _scores(
    answered: AnsweredTexts, bundle_probs: NDArray[np.float64] | None
) -> tuple[list[SystemScores], list[tuple[str, Score]]]:
    """(scores of each system on the texts that it answered, paired differences on the texts that both answered)."""
    scored = [SystemScores("student", metrics.scores(answered.probs, answered.gold))]
    differences = []
    if answered.has_soft_label.any():
        teacher, gold = answered.teacher_probs(), answered.gold[answered.has_soft_label]
        scored.append(SystemScores("teacher", metrics.scores(teacher, gold)))
        pair = metrics.difference(metrics.macro_f1, answered.probs[answered.has_soft_label], teacher, gold)
        differences.append(("student minus teacher", pair))
    if bundle_probs is not None:
        scored.append(SystemScores("int8 bundle", metrics.scores(bundle_probs, answered.gold)))
        pair = metrics.difference(metrics.macro_f1, bundle_probs, answered.probs, answered.gold)
        differences.append(("bundle minus student", pair))
    return scored, differences


def answered_labels(answered: AnsweredTexts, student: Student) -> NDArray[np.bool_]:
    """bool [N, C]: the label that each text is answered with; none if the student abstains."""
    least = np.array([(student.thresholds or {}).get(name, 0.0) for name in answered.labels])
    best = np.eye(len(answered.labels), dtype=bool)[answered.answers]
    return np.asarray(best & (answered.probs >= least))


def _label_scores(answered: AnsweredTexts, student: Student) -> list[LabelScores]:
    """Precision and recall of each label, over the answers that are given."""
    given = answered_labels(answered, student)
    found = []
    for i, name in enumerate(answered.labels):
        n_gold, n_answers = int((answered.gold == i).sum()), int(given[:, i].sum())
        n_right = int((given[:, i] & (answered.gold == i)).sum())
        threshold = (student.thresholds or {}).get(name)
        precision, recall = (n_right / n if n else None for n in (n_answers, n_gold))
        found.append(LabelScores(name, n_gold, n_answers, precision, recall, threshold))
    return found


def _plots(answered: AnsweredTexts, student: Student, training: Sequence[SoftLabel], known: Sequence[SoftLabel]) -> list[Plot]:
    """All plots that the sources allow."""
    given = answered_labels(answered, student)
    lines = [
        curves.precision_recall(name, answered.probs[:, i], answered.gold == i, given[:, i])
        for i, name in enumerate(answered.labels)
        if (answered.gold == i).any()
    ]
    drawn = [
        plots.confusion_plot(curves.confusion(answered.gold, answered.answers, len(answered.labels)), answered.labels),
        plots.precision_recall_plot(lines, thresholds=bool(student.thresholds)),
        plots.reliability_plot(answered.probs, answered.gold),
    ]
    if 0 < student.kept_epoch <= len(student.validation_losses):
        drawn.append(plots.losses_plot(student.validation_losses, student.kept_epoch))
    if rows := training or known:
        drawn.append(plots.agreement_plot(rows, "training texts" if training else "gold texts"))
    return drawn


def _notes(sources: ReportSources, answered: AnsweredTexts) -> list[str]:
    """Notes on what this report lacks."""
    n_labelled, n = int(answered.has_soft_label.sum()), len(answered.texts)
    notes = []
    if not n_labelled:
        notes.append(
            "Without soft labels of the gold texts (--teacher) there are no scores of the teacher, and no slices by agreement."
        )
    elif n_labelled < n:
        notes.append(f"The teacher labelled {n_labelled} of the {n} gold texts; its scores and slices cover only these.")
    if sources.rationales is None:
        notes.append("Without the label store (--store) there are no rationales beside the mistakes.")
    elif not any((text.text, text.target or None) in sources.rationales for text in sources.texts):
        notes.append("The label store has no rationales for these texts: the teacher answered directly, or did not label them.")
    if sources.bundle_probs is None:
        notes.append("Without a bundle (--bundle) all scores are those of the float student.")
    return notes
