"""Ask one teacher about texts and store its paths: all of them, or as many random ones as a time budget allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest
from potstill.labeler.run.budget import Settle, TimeBudget, label_in_time
from potstill.labeler.run.forecast import forecast, forecast_questions
from potstill.labeler.run.label import LabelReport
from potstill.labeler.run.label import label as label_texts
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.run.questions import QuestionsJob, label_questions
from potstill.labeler.run.text_order import at_random, with_gold_between
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import labelling
from potstill.labeler.teacher import Teacher
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.teachers.local import LocalTeacher
from potstill.workflows.teacher import configured_teacher, nearest_worked_examples, with_possible_mode

_N_GUESS = 64  # texts
_LIKELY = 0.7  # of the budget: where a guess says that all texts take less, they need no order

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asking:
    """What a teacher is asked about, and how."""

    task: AnyTask
    texts: Sequence[Text]
    config: LabelConfig  # with a real mode
    teacher: TeacherConfig
    store_path: Path
    nearest: Nearest | None = None
    mode_note: str = ""  # a line that says which mode was taken, where none was stated
    after: Run | None = None  # of a first teacher, whose uncertain texts these are, the least certain one first
    backbone: str = DeriveConfig.backbone  # the encoder that chooses worked examples for the single questions of a task


def ask_all(asking: Asking, progress: RunCallback | None, tell: Tell) -> LabelReport:
    """Draw every missing path; raises as :func:`potstill.labeler.run.label.label`."""
    asking, opened = _opened(asking, tell)
    try:
        return _label(asking, opened, asking.texts, progress)
    finally:
        opened.close()


def ask_in_time(asking: Asking, budget: TimeBudget, settle: Settle, progress: RunCallback | None, tell: Tell) -> LabelReport:
    """Draw the paths of as many texts as the budget allows, and derive their soft labels inside it.

    Texts of which all paths are stored come first, then those that earlier commands began, then the others: at random, unless a
    second teacher is asked, which begins with the least certain ones.

    Args:
        settle: derives and writes the soft labels of what is stored.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label`, and if no path was drawn in time.
    """
    asking, opened = _opened(asking, tell)
    try:
        text_s = _seconds_a_text(asking, opened)
        begun, rest = _begun(asking)
        if rest and asking.after is None:
            rest = _at_random(rest, budget, text_s)

        def ask(texts: Sequence[Text], ends_at: float) -> LabelReport:
            return _label(asking, opened, texts, progress, ends_at)

        report = label_in_time(ask, settle, [*begun, *rest], budget, n_done=len(begun), text_s=text_s)
    finally:
        opened.close()
    if not report.n_paths and not report.in_time:
        raise UserError("the time was up before the first path was drawn; give more --hours")
    return report


def _opened(asking: Asking, tell: Tell) -> tuple[Asking, Teacher]:
    """The teacher, and what it is asked, in a mode that it can answer in."""
    teacher = configured_teacher(asking.teacher, tell, deterministic=asking.config.deterministic)
    config, mode_note = with_possible_mode(asking.config, asking.mode_note, teacher)
    if mode_note:
        tell(mode_note)
    return replace(asking, config=config), teacher


def _label(
    asking: Asking, teacher: Teacher, texts: Sequence[Text], progress: RunCallback | None, ends_at: float | None = None
) -> LabelReport:
    """Draw the missing paths of some of the texts."""
    if isinstance(asking.task, Questionnaire):
        job = QuestionsJob(asking.task, asking.store_path, asking.config, partial(_nearest, asking))
        return label_questions(job, texts, teacher, progress, ends_at=ends_at)
    return label_texts(
        asking.task,
        texts,
        asking.store_path,
        teacher,
        asking.config,
        progress,
        asking.nearest,
        after=asking.after,
        ends_at=ends_at,
    )


def _nearest(asking: Asking, task: Task, texts: Sequence[Text]) -> Nearest | None:
    """The worked examples for each text of one of the questions, where they are chosen by similarity."""
    return nearest_worked_examples(task, texts, asking.config, asking.backbone, lambda _: None)


def _seconds_a_text(asking: Asking, teacher: Teacher) -> float | None:
    """A guess from this machine's measured speed; None where only a run shows it: with a server, or examples for each question."""
    if not isinstance(teacher, LocalTeacher):
        return None
    sample = asking.texts[:: max(1, len(asking.texts) // _N_GUESS)]
    if isinstance(asking.task, Questionnaire):
        if asking.config.examples == "nearest":
            return None
        found = forecast_questions(asking.task, sample, teacher, asking.config)
    else:
        found = forecast(asking.task, sample, teacher, asking.config, asking.nearest)
    shared_s = found.prefix_tokens / found.prompt_tokens_per_s
    return (found.seconds - shared_s) / len(sample)


def _begun(asking: Asking) -> tuple[list[Text], list[Text]]:
    """(texts with paths from earlier commands, those with most paths first; the other texts)."""
    texts = asking.texts
    if not asking.store_path.exists():
        return [], list(texts)
    with LabelStore.read(asking.store_path) as store:
        after = asking.after.settings.digest if asking.after else ""
        runs = [run for run in store.runs() if run.settings.after == after][-1:]
        if runs and runs[0].settings.question:
            runs = labelling(store, runs[0])
        numbers = ", ".join(str(run.number) for run in runs)
        counts = dict(store.query(f"select text_id, count(*) from paths where run in ({numbers}) group by text_id"))
    begun = sorted((text for text in texts if text.id in counts), key=lambda text: -counts[text.id])
    return begun, [text for text in texts if text.id not in counts]


def _at_random(texts: list[Text], budget: TimeBudget, text_s: float | None) -> list[Text]:
    """The texts in random order, with those that carry gold in between; as they come where all should fit.

    Args:
        text_s: about how many seconds a text takes; None: unknown.
    """
    if text_s is not None and len(texts) * text_s < _LIKELY * budget.left:
        return texts
    gold, others = [text for text in texts if text.gold is not None], [text for text in texts if text.gold is None]
    return with_gold_between(at_random(others), gold)
