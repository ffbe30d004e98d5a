"""What is made of a label store without a new token: soft labels, a comparison of methods, and files for people to review."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.interchange.annotation import AnnotationGuide, annotation_guide
from potstill.contract.interchange.review_export import ReviewConfig, ReviewReport, write_review
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, load_any_task
from potstill.contract.questions.soft_answers import write_soft_answers
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation import soft_labels as derivation
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig, ShowConfig
from potstill.labeler.aggregation.questions import DerivedAnswers, derive_questions, priors_of
from potstill.labeler.aggregation.questions_summary import QuestionsSummary, questions_summary
from potstill.labeler.aggregation.shown_texts import ShownText, chosen_rows, shown_texts
from potstill.labeler.aggregation.soft_labels import Derived
from potstill.labeler.aggregation.summary import Summary, summary
from potstill.labeler.store.database import LabelStore, Run, RunSettings
from potstill.labeler.store.integrity import StoreCheck, check_store
from potstill.labeler.store.questions import labelling, own_gold, questions_of

_REVIEW = ReviewConfig()


def derive(
    store: str | Path, soft_labels: str | Path, config: DeriveConfig = DEFAULTS, *, run: int | None = None
) -> Derived | DerivedAnswers:
    """Derive soft labels from the paths of a label store once more, in another way; `potstill labels derive`.

        >>> derived = potstill.derive("out/labels.db", "votes.jsonl", potstill.DeriveConfig(method="votes"))
        >>> derived.rows[0].method
        'votes'

    Args:
        store: the file `labels.db` that :func:`potstill.label` wrote.
        soft_labels: the file to write, .parquet or .jsonl; it holds the texts with gold labels too.
        config: the method, and what it takes.
        run: number of the run; None: the newest. Of a task of several questions any of their runs: all are derived.
    Returns:
        The soft labels in the order of their texts' ids, and warnings about them; of several questions a row has all of them.
    Raises:
        FormatError: if the store is damaged.
        UserError: if there is no such store or run, or its paths cannot be derived from in this way.
    """
    with LabelStore.read(Path(store)) as opened:
        found = opened.find_run(run)
        if found.settings.question:
            answers = derive_questions(opened, found, config)
            write_soft_answers(Path(soft_labels), answers.rows)
            return answers
        derived = derivation.derive(opened, found, config)
    write_soft_labels(Path(soft_labels), derived.rows)
    return derived


def summarize(
    store: str | Path, config: DeriveConfig = DEFAULTS, *, run: int | None = None, question: str | None = None
) -> Summary | QuestionsSummary:
    """Compare what each method makes of a store's paths: scores on gold, label shares, agreement, cost; raises as `derive`.

    Args:
        question: of a task of several, the one to compare the methods for, or one of its tags as `question/tag`; None: an overview
            of all.
    """
    with LabelStore.read(Path(store)) as opened:
        found = opened.find_run(run)
        if found.settings.question and question is None:
            return questions_summary(opened, found, config)
        found = _run_of(opened, found, question)
        return summary(opened, found, _alone(opened, found, config))


def _run_of(store: LabelStore, run: Run, question: str | None) -> Run:
    """The run of one question of the labelling that a run belongs to; raises UserError if there is none of that name."""
    if not run.settings.question and question is None:
        return run
    runs = {own.settings.question: own for own in labelling(store, run)}
    if question is None or question not in runs:
        found = "which of the questions?" if question is None else f"there is no question {question!r}."
        raise UserError(f"{store.path}: {found} Name one with --question: {', '.join(runs)}")
    return runs[question]


def _alone(store: LabelStore, run: Run, config: DeriveConfig) -> DeriveConfig:
    """The configuration for one question of several, with its own prior; raises UserError if the prior does not fit."""
    if not run.settings.question:
        return config
    return replace(config, prior=priors_of(config, questions_of(labelling(store, run))).get(run.settings.question))


@contextmanager
def show(
    store: str | Path,
    config: ShowConfig,
    derive: DeriveConfig = DEFAULTS,
    *,
    run: int | None = None,
    question: str | None = None,
) -> Iterator[tuple[int, int, list[str], Iterator[ShownText]]]:
    """Read stored texts with what the teacher made of them, while the block lasts; `potstill labels show`.

    Args:
        config: which texts, in which order.
        derive, run, question: as for :func:`export_for_review`.
    Returns:
        (number of texts, number of those to show, warnings, the texts one after the other).
    Raises:
        FormatError: if the store is damaged.
        UserError: if there is no such store, run, question or label.
    """
    with LabelStore.read(Path(store)) as opened:
        found = _run_of(opened, opened.find_run(run), question)
        derived = derivation.derive(opened, found, _alone(opened, found, derive))
        rows = [msgspec.structs.replace(row, gold=own_gold(opened.path, found.settings, _text(row))) for row in derived.rows]
        chosen = chosen_rows(rows, found.settings.labels, config)
        yield len(rows), len(chosen), derived.warnings, shown_texts(opened, found, chosen, config)


def check(store: str | Path) -> StoreCheck:
    """Look for damage in a store: in the file, and in every path; raises UserError if there is no such store."""
    with LabelStore.read(Path(store)) as opened:
        return check_store(opened)


def export_for_review(
    store: str | Path,
    file: str | Path,
    config: ReviewConfig = _REVIEW,
    *,
    task: str | Path | None = None,
    derive: DeriveConfig = DEFAULTS,
    run: int | None = None,
    question: str | None = None,
) -> tuple[ReviewReport, list[str]]:
    """Write the soft labels of a store's run for people to review, or as a table.

    Args:
        file: the file to write, or for the format `datasets` a new folder.
        task: the task's file; its question, guideline and meanings are then shown to the reviewers.
        question: of a task of several, the one to write, or one of its tags as `question/tag`.
    Returns:
        What was written, and warnings about the soft labels.
    Raises:
        FormatError: if the store is damaged, or the task has other labels than the run.
        UserError: if there is no such store or run, or nothing is left to review.
    """
    with LabelStore.read(Path(store)) as opened:
        found = _run_of(opened, opened.find_run(run), question)
        derived = derivation.derive(opened, found, _alone(opened, found, derive))
        rows = [msgspec.structs.replace(row, gold=own_gold(opened.path, found.settings, _text(row))) for row in derived.rows]
    guide = _guide(task, found.settings, any(row.target for row in rows))
    source = f"{found.settings.teacher} {derived.rows[0].method}"
    return write_review(Path(file), rows, guide, source, config), derived.warnings


def _text(row: SoftLabel) -> Text:
    """The text of a soft label."""
    return Text(row.text, row.id, row.target, row.gold)


def _task_of(task: AnyTask, settings: RunSettings) -> Task:
    """The task that a run asks: the task itself, or one of its questions; raises UserError if it has no such question."""
    if isinstance(task, Questionnaire):
        asks = {ask.key: ask.task for ask in task.asks()}
        if settings.question not in asks:
            raise UserError(f"the task has no question {settings.question!r}; it has {', '.join(asks)}")
        return asks[settings.question]
    return task


def _guide(task_file: str | Path | None, settings: RunSettings, target: bool) -> AnnotationGuide:
    """What the reviewers are shown beside a text; raises FormatError if the task file has other labels than the run."""
    if task_file is None:
        return AnnotationGuide(dict.fromkeys(settings.labels, ""), target=target)
    task = _task_of(load_any_task(task_file), settings)
    if task.label_names != settings.labels:
        found, wanted = ", ".join(task.label_names), ", ".join(settings.labels)
        raise FormatError(
            Path(task_file), "labels", f"are {found}; those of the run are {wanted}: give the task that it was labelled for"
        )
    return annotation_guide(task)
