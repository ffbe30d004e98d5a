"""What a student has to beat, prepared first and answered later, so that every mistake shows before anything is computed.

Axes: N texts, C scored labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.trainer.data.trained_on import Taught
from potstill.trainer.evaluation.baselines.cross_fit import N_FOLDS, cross_fitted
from potstill.trainer.evaluation.baselines.ready_made import ReadyMade, answers, open_ready_made
from potstill.trainer.evaluation.baselines.tfidf import tfidf_answers
from potstill.trainer.evaluation.comparison import System
from potstill.trainer.evaluation.gold import Gold
from potstill.trainer.training.loop import Progress
from potstill.trainer.training.losses import distribution_target

BUILT_IN = ("majority", "tfidf", "gold")
TAKEN = (*BUILT_IN, "student", "teacher", "bundle")  # a folder of such a name goes by its path


@dataclass(frozen=True)
class Ground:
    """What baselines stand on."""

    checkpoint: Path
    student: Student
    gold: Gold
    taught: Taught | None  # None: nobody said which soft labels the student was trained on
    progress: Progress | None = None


def baseline(name: str, ground: Ground) -> System:
    """The answers of one of BUILT_IN.

    Raises:
        UserError: if it needs soft labels and there are none, or as `cross_fit.cross_fitted` does.
    """
    return _WAYS[name](ground)


def ready_made(classifier: ReadyMade, name: str, gold: Gold) -> System:
    """The answers of a ready-made classifier under the student's labels; raises FormatError, UserError."""
    where = str(classifier.folder)
    probs, n_even = gold.label_map.foreign(answers(classifier, [text.text for text in gold.texts]), classifier.labels, where)
    stands_for = gold.label_map.resolve(classifier.labels, where)
    told = [f"{own} is its {name!r}" for name, own in stands_for.items() if own != name and own]
    told += [f"it has no {label!r}" for label in gold.labels if label not in stands_for.values()]
    told += ["it reads no target"] if any(text.target for text in gold.texts) else []
    return System(name, probs, "; ".join(told + even_note(n_even)))


def even_note(n_even: int) -> list[str]:
    """What to say of rows that had no probability left for any scored label."""
    return [f"{n_even} answers gave the scored labels no probability and count as even shares"] if n_even else []


def find_ready_made(names: list[str]) -> dict[str, ReadyMade]:
    """The baselines that are folders, by the name of their row; those of BUILT_IN are passed over.

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
                f"baseline {name!r} is no folder and none of {', '.join(BUILT_IN)}; name one of these, or a classifier's folder"
            )
        row = folder.resolve().name
        found[name if row in found or row in TAKEN else row] = open_ready_made(folder)
    return found


def _majority(ground: Ground) -> System:
    """The same answer to every text: the shares of the labels."""
    gold = ground.gold
    if ground.taught:
        rows = np.array([distribution_target(row, ground.student.labels) for row in ground.taught.training])
        shares, note = gold.label_map.own(rows.mean(axis=0, keepdims=True))[0], "shares of the soft labels"
    else:
        counts = np.bincount(gold.classes, minlength=len(gold.labels))
        shares, note = counts[None, :] / counts.sum(), "shares of the gold labels themselves, for want of --soft-labels"
    return System("majority", np.repeat(shares, len(gold.texts), axis=0), f"always {gold.labels[int(shares.argmax())]!r}: {note}")


def _tfidf(ground: Ground) -> System:
    """Words and characters, taught what the student was taught."""
    if ground.taught is None:
        raise UserError(
            "baseline tfidf: learns from the soft labels that the student was trained on; name their file with --soft-labels"
        )
    texts = [(text.text, text.target) for text in ground.gold.texts]
    probs, strength = tfidf_answers(ground.taught, ground.student.labels, texts)
    own, n_even = ground.gold.label_map.own(probs)
    note = f"trained on the same {len(ground.taught.training)} soft labels, C = {strength:g} by the same validation texts"
    return System("tfidf", own, "; ".join([note, *even_note(n_even)]))


def _gold(ground: Ground) -> System:
    """The same kind of student, taught by people."""
    probs = cross_fitted(ground.checkpoint, ground.student, ground.gold.texts, ground.progress)
    own, n_even = ground.gold.label_map.own(probs)
    note = f"{N_FOLDS} students of the same backbone, each trained on the gold labels of the other folds, its temperature too"
    return System("gold", own, "; ".join([note, *even_note(n_even)]))


_WAYS: dict[str, Callable[[Ground], System]] = {"majority": _majority, "tfidf": _tfidf, "gold": _gold}
