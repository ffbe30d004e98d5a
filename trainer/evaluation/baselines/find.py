"""Find baselines by name and score them: built-in ones, and folders with ready-made classifiers.

Axes: N texts, C scored labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.data.targets import target_matrix
from potstill.trainer.evaluation.baselines.cross_fit import N_FOLDS, cross_fitted
from potstill.trainer.evaluation.baselines.ready_made import ReadyMade, open_ready_made, predict_ready_made
from potstill.trainer.evaluation.baselines.tfidf import tfidf_answers
from potstill.trainer.evaluation.comparison import System
from potstill.trainer.evaluation.gold import Gold
from potstill.trainer.training.loop import TrainProgress

BUILT_IN = ("majority", "tfidf", "gold")
RESERVED = (*BUILT_IN, "student", "teacher", "bundle")  # names of rows; a folder with such a name is listed by its path


@dataclass(frozen=True)
class BaselineInputs:
    """The inputs of built-in baselines."""

    checkpoint: Path
    student: Student
    gold: Gold
    rows: TrainingRows | None  # None: the student's soft labels were not given
    progress: TrainProgress | None = None


def built_in_baseline(name: str, inputs: BaselineInputs) -> System:
    """Answer the gold texts with a built-in baseline. Args: name, one of BUILT_IN.

    Raises:
        UserError: if it needs soft labels and there are none, or as `cross_fit.cross_fitted`.
    """
    return _BASELINES[name](inputs)


def ready_made_baseline(classifier: ReadyMade, name: str, gold: Gold) -> System:
    """Answer the gold texts with a ready-made classifier, under the student's labels; raises FormatError, UserError."""
    where = str(classifier.folder)
    probs, n_even = gold.label_map.foreign(
        predict_ready_made(classifier, [text.text for text in gold.texts]), classifier.labels, where
    )
    stands_for = gold.label_map.resolve(classifier.labels, where)
    remarks = [f"{own} is its {name!r}" for name, own in stands_for.items() if own != name and own]
    remarks += [f"it has no {label!r}" for label in gold.labels if label not in stands_for.values()]
    remarks += ["it reads no target"] if any(text.target for text in gold.texts) else []
    return System(name, probs, "; ".join(remarks + even_note(n_even)))


def even_note(n_even: int) -> list[str]:
    """A note on answers without probability for any scored label."""
    return [f"{n_even} answers gave the scored labels no probability and count as even shares"] if n_even else []


def find_ready_made(names: list[str]) -> dict[str, ReadyMade]:
    """Open the baselines that are folders, by the name of their row; names in BUILT_IN are skipped.

    Raises:
        FormatError: if a folder holds no classifier.
        UserError: if a name is neither built in nor a folder.
    """
    found: dict[str, ReadyMade] = {}
    for name in dict.fromkeys(names):
        if name in BUILT_IN:
            continue
        folder = Path(name)
        if not folder.is_dir():
            raise UserError(
                f"baseline {name!r} is neither a folder nor one of {', '.join(BUILT_IN)}; name one of these or a folder"
            )
        row = folder.resolve().name
        found[name if row in found or row in RESERVED else row] = open_ready_made(folder)
    return found


def _majority(inputs: BaselineInputs) -> System:
    """The label shares as the answer to every text."""
    gold = inputs.gold
    if inputs.rows:
        rows = target_matrix(inputs.rows.training, inputs.student.labels)
        shares, note = gold.label_map.own(rows.mean(axis=0, keepdims=True))[0], "shares of the soft labels"
    else:
        counts = np.bincount(gold.classes, minlength=len(gold.labels))
        shares, note = counts[None, :] / counts.sum(), "shares of the gold labels, because --soft-labels is not given"
    return System("majority", np.repeat(shares, len(gold.texts), axis=0), f"always {gold.labels[int(shares.argmax())]!r}: {note}")


def _tfidf(inputs: BaselineInputs) -> System:
    """TF-IDF and logistic regression, trained on the student's training rows."""
    if inputs.rows is None:
        raise UserError("baseline tfidf: is trained on the student's soft labels; name their file with --soft-labels")
    texts = [(text.text, text.target) for text in inputs.gold.texts]
    probs, strength = tfidf_answers(inputs.rows, inputs.student.labels, texts)
    own, n_even = inputs.gold.label_map.own(probs)
    note = f"trained on the same {len(inputs.rows.training)} soft labels; C = {strength:g}, chosen on the same validation texts"
    return System("tfidf", own, "; ".join([note, *even_note(n_even)]))


def _gold(inputs: BaselineInputs) -> System:
    """The same kind of student, trained on gold labels."""
    probs = cross_fitted(inputs.checkpoint, inputs.student, inputs.gold.texts, inputs.progress)
    own, n_even = inputs.gold.label_map.own(probs)
    note = f"{N_FOLDS} students of the same backbone, each trained and calibrated on the gold labels of the other folds"
    return System("gold", own, "; ".join([note, *even_note(n_even)]))


_BASELINES: dict[str, Callable[[BaselineInputs], System]] = {"majority": _majority, "tfidf": _tfidf, "gold": _gold}
