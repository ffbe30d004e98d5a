"""Rules that nobody has to write: proposed from a store's texts, judged on other ones, and added to the task once accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import as_single
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.weak_supervision.config import ProposeConfig
from potstill.labeler.weak_supervision.proposals.gate import JudgedRule, Proposal, TeacherLabels, judged
from potstill.labeler.weak_supervision.proposals.record import ProposalRecord, add_to_task, read_record, write_record
from potstill.labeler.weak_supervision.proposals.teacher_words import propose_by_teacher
from potstill.labeler.weak_supervision.proposals.words import propose_words
from potstill.workflows.labels.sources import check_run
from potstill.workflows.teacher import configured_teacher

_TEACHER = TeacherConfig()


_PROPOSE = ProposeConfig()


def propose_rules(
    task: str | Path,
    store: str | Path,
    file: str | Path,
    config: ProposeConfig = _PROPOSE,
    teacher: TeacherConfig = _TEACHER,
    tell: Callable[[str], None] = lambda _: None,
) -> ProposalRecord:
    """Propose rules from one half of a store's texts and judge them on the other; `potstill labels propose`.

    No rule votes before it is accepted: :func:`accept_rules`.

    Args:
        task: the file of a task of one choice.
        store: its label store.
        file: the JSON file to write: every proposed rule with its coverage, its agreement with the teacher, and examples.
        config: who proposes.
        teacher: who writes rules, where the teacher does.
        tell: takes a line for a person.
    Raises:
        FormatError: if a file is missing, damaged or malformed, or the store was labelled for other labels.
        UserError: if the task has several questions, there is no such run, or the teacher fails.
    """
    read = as_single(task, "potstill labels propose")
    with LabelStore.read(Path(store)) as opened:
        run = opened.find_run(config.run)
        check_run(Path(task), read, Path(store), run)
        rows = derive(opened, run, DeriveConfig(refine=config.refine)).rows
    texts = [Text(row.text, row.id, row.target) for row in rows]
    labels = TeacherLabels(texts, read.label_names, np.array([list(row.probs.values()) for row in rows]))
    words = propose_words(labels)
    proposals = words if config.by != "teacher" else []
    if config.by != "words":
        proposals = [*proposals, *_by_teacher(read, labels, words, teacher, tell)]
    known = {rule.name for rule in read.rules}
    different = {proposal.rule.name: proposal for proposal in reversed(proposals) if proposal.rule.name not in known}
    record = ProposalRecord(
        task_digest=read.digest, n_texts=int(labels.judging.sum()), rules=judged(list(reversed(different.values())), labels)
    )
    write_record(Path(file), record)
    return record


def _by_teacher(
    task: Task, labels: TeacherLabels, words: Sequence[Proposal], teacher: TeacherConfig, tell: Callable[[str], None]
) -> list[Proposal]:
    """What the teacher proposes; it is shown worked examples with the words that were counted."""
    shown = {
        name: [keyword for one in words if one.rule.label == name for keyword in one.rule.keywords] for name in task.label_names
    }
    opened = configured_teacher(teacher, tell)
    try:
        return propose_by_teacher(task, labels, opened, shown)
    finally:
        opened.close()


def accept_rules(task: str | Path, file: str | Path, names: Sequence[str]) -> list[JudgedRule]:
    """Add rules that passed to a task file, where they vote from then on.

    Args:
        task: the file of the task.
        file: what :func:`propose_rules` wrote.
        names: of the rules that a person accepts.
    Raises:
        FormatError: if a file is missing or malformed, or the task has a rule of that name.
        UserError: if a name is none of a rule that passed, or the rules were proposed for another task.
    """
    read, record = as_single(task, "potstill labels propose"), read_record(Path(file))
    if record.task_digest != read.digest:
        raise UserError(f"{file}: was proposed for another task, or before this one was changed; propose again")
    return add_to_task(Path(task), record, names)
