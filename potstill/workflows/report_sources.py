"""What a report takes from the labeler: the teacher's rationales out of a label store."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.labeler.aggregation.path_table import path_logprobs
from potstill.labeler.store.label_store import LabelStore
from potstill.trainer.report.errors import Rationale, Rationales


def stored_rationales(path: Path, student: Student) -> Rationales:
    """The reasoning of each path of the newest run of the student's task, by text and target; direct answers have none.

    Raises:
        FormatError: if the file is no label store, or damaged.
        UserError: if it holds no run of the student's task.
    """
    with LabelStore.read(path) as store:
        runs = [run for run in store.runs() if run.settings.task_digest == student.task_digest]
        if not runs:
            raise UserError(f"{path}: holds no run of the student's task (digest {student.task_digest[:12]}…); name its own store")
        texts, paths = store.texts(), list(store.paths(runs[-1]))
        settings = runs[-1].settings
    if not paths:
        return {}
    favourites = path_logprobs(paths, settings).argmax(axis=1)
    found: dict[tuple[str, str | None], list[Rationale]] = {}
    for drawn, favourite in zip(paths, favourites, strict=True):
        if not drawn.rationale.strip():
            continue
        text = texts[drawn.text_id]
        said = Rationale(settings.labels[favourite], drawn.rationale)
        found.setdefault((text.text, text.target or None), []).append(said)
    return found
