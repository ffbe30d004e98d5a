"""What a report takes from the other stages: a bundle's answers, and the teacher's rationales out of a label store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.checkpoint import Student
from contract.errors import UserError
from contract.texts import Text
from labeler.path_table import path_logprobs
from labeler.store import LabelStore
from serve.classifier import Classifier
from trainer.errors import Rationale, Rationales


def bundle_answers(bundle: Path, student: Student, texts: Sequence[Text]) -> NDArray[np.float64]:
    """float64 [N, C]: the bundle's probabilities, labels in the student's order.

    Raises:
        FormatError, UserError: if the bundle cannot be opened, or was made for other labels.
    """
    with Classifier.open(bundle) as classifier:
        labels = classifier.manifest.labels
        if labels != student.labels:
            found, wanted = ", ".join(labels), ", ".join(student.labels)
            raise UserError(f"{bundle}: has the labels {found}, the checkpoint {wanted}; name a bundle of this checkpoint")
        targets = [text.target or "" for text in texts] if student.target else None
        return classifier.probs([text.text for text in texts], targets)


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
