"""The report on a student of several questions: for each its scores, its labels, and plots of confidence and confusion.

Axes: n texts with a gold answer to a question, C its labels.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from potstill.contract.checkpoint import Student
from potstill.contract.questions.head import Head, ranges
from potstill.contract.questions.kind_scores import MAIN
from potstill.contract.questions.probabilities import NEVER, decided, tag_thresholds
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.scores.record import Score, Scores
from potstill.trainer.evaluation.curves import confusion
from potstill.trainer.evaluation.questions import AnsweringSystem, QuestionsComparison, QuestionScores
from potstill.trainer.evaluation.questions_text import NAMES, SHOWN, questions_notes
from potstill.trainer.report.page import (
    REPLACEMENTS,
    TEMPLATES,
    colours,
    duration,
    map_class,
    map_line,
    percent,
    printable,
    short_score,
    signed_score,
    svg_markup,
    whole,
)
from potstill.trainer.report.plot_style import SERIES, Plot
from potstill.trainer.report.plots import confusion_plot, losses_plot, reliability_plot
from potstill.trainer.report.stages import NO_STAGES, ExportStage, Stages
from potstill.trainer.report.text_map import TextMap

N_SHOWN = 5  # labels of a question that are shown at once; the others are folded


@dataclass(frozen=True)
class QuestionsFolder:
    """What a project's folder holds of each stage, for each question and for all; every part may be missing."""

    stages: Mapping[str, Stages] = field(default_factory=dict)  # by question
    export: ExportStage | None = None  # of the bundle, which answers all questions
    seconds: Mapping[str, float] = field(default_factory=dict)  # that labelling (`label`) and training (`train`) took
    maps: Sequence[tuple[str, TextMap]] = ()  # by question: the same texts at the same places
    notes: tuple[str, ...] = ()  # on what is missing


NO_FOLDER = QuestionsFolder()


@dataclass(frozen=True)
class AnsweredLabel:
    """How often a label is right."""

    name: str
    n_gold: int
    n_answers: int
    precision: float | None  # None: the label is never answered
    recall: float | None  # None: no text has the label
    threshold: float | None  # None: it has none


@dataclass(frozen=True)
class QuestionSection:
    """What the page says about one question."""

    name: str
    kind: str
    question: str
    n: int
    metrics: list[str]  # their names in the table
    rows: list[tuple[str, list[Score | None]]]  # by system, in the order of the metrics
    differences: list[tuple[str, str, Score]]  # (the metric, the other system, student minus other)
    labels: list[AnsweredLabel]  # the most frequent in gold first
    plots: list[Plot]
    stages: Stages = NO_STAGES  # what a project's folder holds about it


@dataclass(frozen=True)
class QuestionsReport:
    """The contents of the page."""

    task_name: str
    n: int
    student: Student
    sections: list[QuestionSection]
    plots: list[Plot]  # of the training
    notes: list[str]
    folder: QuestionsFolder

    @property
    def all_plots(self) -> list[Plot]:
        """Every plot of the page."""
        return [*self.plots, *(plot for section in self.sections for plot in section.plots)]


def build_questions_report(
    found: QuestionsComparison, student: Student, task: Questionnaire, folder: QuestionsFolder = NO_FOLDER
) -> QuestionsReport:
    """What the page shows.

    Args:
        found: the comparison of the student, its bundle and its teacher on gold answers.
        folder: what a project's folder holds of each stage.
    """
    own = found.systems[0]
    parts = dict(zip([head.name for head in own.heads], ranges(own.heads), strict=True))
    sections = [
        replace(
            _section(one, own, parts[one.head.name], task.find(one.head.name).question),
            stages=folder.stages.get(one.head.name, NO_STAGES),
        )
        for one in found.questions
    ]
    drawn = []
    if 0 < student.kept_epoch <= len(student.validation_losses):
        drawn.append(losses_plot(student.validation_losses, student.kept_epoch))
    notes = [*questions_notes(found), *folder.notes]
    return QuestionsReport(task.name, len(found.texts), student, sections, drawn, notes, folder)


def questions_report_page(report: QuestionsReport) -> bytes:
    """Render the page in UTF-8, with style, plots and script inside; the same report gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(score=short_score, signed=signed_score, printable=printable)
    environment.filters.update(whole=whole, duration=duration, percent=percent)
    scripts = ("questions.js", *(["map.js"] if report.folder.maps else []))
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    page = environment.get_template("questions.html").render(
        report=report,
        svg=svg_markup,
        n_shown=N_SHOWN,
        n_series=len(SERIES),
        map_class=map_class,
        map_line=map_line,
        style=Markup(colours() + "".join(_style(name) for name in ("report.css", "questions.css", "map.css"))),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page.translate(REPLACEMENTS).encode("utf-8")


def _style(name: str, folder: Path = TEMPLATES) -> str:
    """A style sheet's text."""
    return (folder / name).read_text(encoding="utf-8")


def _section(scores: QuestionScores, own: AnsweringSystem, outputs: slice, question: str) -> QuestionSection:
    """What the page says about one question."""
    head, shown = scores.head, SHOWN[scores.head.kind]
    probs = own.probs[scores.places][:, outputs]
    main = NAMES[MAIN[head.kind]]
    return QuestionSection(
        name=head.name,
        kind=head.kind,
        question=question.strip(),
        n=scores.n,
        metrics=[NAMES[one] for one in shown],
        rows=[(who, _row(found, shown)) for who, found in scores.scores.items()],
        differences=[(main, other, score) for other, score in scores.student_minus.items()],
        labels=_labels(head, probs, scores.gold),
        plots=[replace(plot, name=f"{head.name}-{plot.name}") for plot in _plots(head, probs, scores.gold)],
    )


def _row(found: Scores, shown: Sequence[str]) -> list[Score | None]:
    """The scores in the table's order; None for one that the texts do not give."""
    return [found.get(name) for name in shown]


def _labels(head: Head, probs: NDArray[np.float64], gold: NDArray[np.int64]) -> list[AnsweredLabel]:
    """Precision and recall of each label, over the answers that are given; of tags of each tag."""
    given, truth = decided(head, probs) == 1, gold == 1
    least: list[float | None] = [None if one == NEVER else one for one in tag_thresholds(head) or []]
    if head.is_softmax:
        least = [(head.thresholds or {}).get(name) for name in head.labels]
        reached = np.array([(head.thresholds or {}).get(name, 0.0) for name in head.labels], dtype=np.float64)  # None: NaN
        best = np.eye(len(head.labels), dtype=bool)[probs.argmax(axis=1)]
        given, truth = best & (probs >= reached), np.eye(len(head.labels), dtype=bool)[gold]
    rows = []
    for c, name in enumerate(head.labels):
        n_gold, n_answers, n_right = (int(held.sum()) for held in (truth[:, c], given[:, c], truth[:, c] & given[:, c]))
        precision, recall = (n_right / n if n else None for n in (n_answers, n_gold))
        rows.append(AnsweredLabel(name, n_gold, n_answers, precision, recall, least[c]))
    return sorted(rows, key=lambda row: -row.n_gold) if head.kind in ("choice", "tags") else rows


def _plots(head: Head, probs: NDArray[np.float64], gold: NDArray[np.int64]) -> list[Plot]:
    """Reliability, and for one answer a text the confusion matrix."""
    if not head.is_softmax:  # each tag as two answers
        return [reliability_plot(np.stack([probs.ravel(), 1 - probs.ravel()], axis=1), 1 - gold.ravel())]
    table = confusion(gold, probs.argmax(axis=1), len(head.labels))
    return [confusion_plot(table, head.labels), reliability_plot(probs, gold)]
