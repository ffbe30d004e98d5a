"""Students trained on gold labels alone; each text is answered by one that was not trained on it (cross-fitting).

Axes: N texts, S labels of the student.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import TASK_FILE, Student
from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task, task_from_json
from potstill.contract.texts import Text
from potstill.models.catalog import find_backbone
from potstill.trainer.calibration.temperature import apply_temperature, fit_temperature
from potstill.trainer.config import as_trained
from potstill.trainer.data.selection import text_hash
from potstill.trainer.training.loop import TrainProgress
from potstill.trainer.training.student import train_in_memory

N_FOLDS = 5
MIN_PROB = 1e-12  # keeps the logarithm of a probability of 0 finite
MIN_TEXTS = 10  # different texts of each of at least two labels, so that every fold's student has two labels to learn


def cross_fitted(checkpoint: Path, student: Student, texts: list[Text], progress: TrainProgress | None) -> NDArray[np.float64]:
    """Answers of students with the same backbone, loss, seed and length, each trained on four fifths of the gold texts.

    Args:
        checkpoint, student: give backbone and settings.
        texts: N texts with gold labels of the student's.
        progress: called with ("fold 2 of 5", steps done, steps planned, loss of the last step).
    Returns:
        float64 [N, S], rows sum to 1.
    Raises:
        UserError: if there are too few texts, the backbone is missing or has changed, or training fails.
    """
    _check_enough(texts)
    if find_backbone(student.backbone).sha256 != student.backbone_digest:
        raise UserError(f"baseline gold: {student.backbone} has changed since the student was trained from it; restore its weights")
    task_file = checkpoint / TASK_FILE
    task = task_from_json(task_file, task_file.read_bytes())
    config = as_trained(student, min_agreement=0)
    probs = np.empty((len(texts), len(student.labels)))
    place = np.array(folds(texts))
    for fold in range(N_FOLDS):
        name = f"fold {fold + 1} of {N_FOLDS}"
        rows = [gold_row(text, task) for text, of in zip(texts, place, strict=True) if of != fold]
        show = None if progress is None else _renamed(progress, name)
        try:
            trained = train_in_memory("gold texts", rows, task, config, show)
        except UserError as error:
            raise UserError(f"baseline gold, {name}: {error}") from error
        answered = np.flatnonzero(place == fold)
        probs[answered] = trained.probs([(texts[i].text, texts[i].target) for i in answered])
    return recalibrated(probs, np.array([student.labels.index(text.gold or "") for text in texts]), place)


def recalibrated(probs: NDArray[np.float64], gold: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [N, S]: the answers of each fold at the temperature fitted on the answers of the other folds.

    A fold's student rarely has enough validation texts for a temperature of its own, and a network trained on a few certain labels
    is far too confident without one. The answers of the other folds are held-out answers, too.

    Args:
        probs: float [N, S], rows sum to 1.
        gold: int [N], class of each text.
        place: int [N], fold of each text.
    """
    logits, targets = np.log(np.maximum(probs, MIN_PROB)), np.eye(probs.shape[1])[gold]
    found = np.empty_like(probs)
    for fold in np.unique(place):
        here = place == fold
        found[here] = apply_temperature(logits[here], fit_temperature(logits[~here], targets[~here]).value)
    return found


def folds(texts: list[Text]) -> list[int]:
    """The fold of every text, from 0: stratified by gold label and ordered by hash; equal texts are in the same fold."""
    by_label: dict[str, dict[str, None]] = defaultdict(dict)
    seen = set()
    for text in texts:
        if text.text not in seen:
            seen.add(text.text)
            by_label[text.gold or ""][text.text] = None
    found: dict[str, int] = {}
    for label in sorted(by_label):  # the count continues from label to label, so that the folds stay equally large
        for words in sorted(by_label[label], key=text_hash):
            found[words] = len(found) % N_FOLDS
    return [found[text.text] for text in texts]


def gold_row(text: Text, task: Task) -> SoftLabel:
    """A gold label as a soft label with probability 1."""
    probs = {name: float(name == text.gold) for name in task.label_names}
    return SoftLabel(
        id=text.id,
        text=text.text,
        target=text.target,
        probs=probs,
        votes={name: int(p) for name, p in probs.items()},
        agreement=1,
        n_paths=1,
        entropy=0,
        label_mass=1,
        method="gold",
        teacher_digest="gold",
        task_digest=task.digest,
    )


def _check_enough(texts: list[Text]) -> None:
    """Raise UserError for too few gold texts to train five students."""
    by_label: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        by_label[text.gold or ""].add(text.text)
    if sum(len(each) >= MIN_TEXTS for each in by_label.values()) < 2:
        counted = ", ".join(f"{len(each)} {name!r}" for name, each in sorted(by_label.items()))
        raise UserError(f"baseline gold: needs at least {MIN_TEXTS} texts of each of two labels to train on; there are {counted}")


def _renamed(progress: TrainProgress, name: str) -> TrainProgress:
    """The same callback under another stage name."""
    return lambda _, done, total, loss: progress(name, done, total, loss)
