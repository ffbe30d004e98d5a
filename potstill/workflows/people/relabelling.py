"""Ask a teacher again after a task has changed: only about the texts whose prompts differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import LabelReport
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import labelling
from potstill.labeler.teachers.config import TeacherConfig
from potstill.review.steering.changed_prompts import ChangedPrompts
from potstill.workflows.asking import Asking, ask_all


@dataclass(frozen=True)
class ChangeOfTask:
    """A labelling, and the task that it is to be brought to."""

    store_path: Path
    run: Run  # of several questions any of their runs
    old: AnyTask  # that the run asked
    new: AnyTask
    prompts: ChangedPrompts


def ask_again(
    change: ChangeOfTask,
    teacher: TeacherConfig | None = None,
    progress: RunCallback | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> LabelReport:
    """Draw the paths of the texts whose prompts have changed, in a run of the new task; the others keep theirs.

    A path follows from its prompt, its seed and the teacher. So where the prompt is the same, the path is the one that the teacher
    would draw again, and it is carried over.

    Args:
        teacher: who answers; None: the one of the run.
    Raises:
        UserError: if the run cannot be continued from what the store tells, or the teacher fails.
    """
    with LabelStore.read(change.store_path) as store:
        config, texts = run_config(store, change.run), _texts_of(store, change.run)
    teacher = teacher or _teacher_of(change.run)
    same = Asking(change.old, [], config, teacher, change.store_path)
    ask_all(same, None, tell)  # nothing is missing, so it asks nothing; another teacher, or other settings, are refused
    if not change.prompts.everywhere:
        _carry(change, texts)
    config = replace(config, new_run=bool(change.prompts.everywhere))
    return ask_all(replace(same, task=change.new, texts=texts, config=config), progress, tell)


def _teacher_of(run: Run) -> TeacherConfig:
    """The teacher of a run, as far as the store tells."""
    settings = run.settings
    return TeacherConfig(settings.teacher, kv_type=settings.kv_type, api=settings.api or "auto")  # type: ignore[arg-type]  # as stored


def run_config(store: LabelStore, run: Run) -> LabelConfig:
    """How a run was asked, as far as the store tells.

    Raises:
        UserError: if it cannot be told: worked examples or candidates were chosen by similarity, or two teachers were asked.
    """
    settings = run.settings
    for found, what in (
        (settings.after, "asked a second teacher"),
        (settings.candidates, "asked about candidates"),
        (settings.examples == "nearest", "chose worked examples by similarity"),
    ):
        if found:
            raise UserError(f"run {run.number} {what}; label the texts with the changed task by: potstill label --new-run")
    ((most,),) = store.query("select coalesce(max(path), 0) + 1 from paths where run = ?", run.number)
    n_direct = settings.n_direct if settings.mode == "cascade" else 0
    limit = "max_thought_tokens" if settings.thoughts else "max_rationale_tokens"
    values = {
        **{name: getattr(settings, name) for name in ("mode", "bound", "examples", "guideline", "template", "temperature", "seed")},
        "deterministic": settings.deterministic,
        "n_paths": max(1, most - n_direct),
        "n_variants": settings.n_variants - n_direct,
        "n_direct": settings.n_direct or LabelConfig.n_direct,
        "candidates": 0,
        "thoughts": "on" if settings.thoughts else "off" if settings.template == "chat" else "auto",
        limit: settings.max_rationale_tokens,
    }
    return LabelConfig(**values)


def _texts_of(store: LabelStore, run: Run) -> list[Text]:
    """The texts that a run was asked about, in the order of the store."""
    query = "select text_id from paths where run = ? union select text_id from too_long where run = ?"
    asked = {text_id for (text_id,) in store.query(query, run.number, run.number)}
    return [text for text_id, text in store.texts().items() if text_id in asked]


def _carry(change: ChangeOfTask, texts: Sequence[Text]) -> None:
    """Begin the runs of the new task with the paths of the texts whose prompts are the same."""
    changed = set(change.prompts.ids)
    kept = [text.id for text in texts if text.id not in changed]
    with LabelStore.create(change.store_path) as store:
        for run in labelling(store, change.run) if change.run.settings.question else [change.run]:
            new = store.begin_run(msgspec.structs.replace(run.settings, task_digest=change.new.digest))
            store.carry(run, new, kept)
