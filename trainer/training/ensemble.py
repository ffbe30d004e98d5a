"""Several students of different seeds, and what they say together of texts that they have not learned by heart.

Axes: N training texts, V validation texts, C classes, M students.

A student that has seen a text's label gives it back: its answer there is the teacher's error over again. So the texts are dealt to
folds, every student leaves one fold out, and a text's mean is taken over the students that left it out (cross-fitting; Wolpert
1992, Neural Networks 5(2), "stacked generalization"). With as many folds as students it costs no further training.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Scores
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.training.resume import Work

Answers = tuple[
    NDArray[np.float64], NDArray[np.float64]
]  # calibrated probabilities, of training [N, C] and validation [V, C] texts


@dataclass(frozen=True)
class Members:
    """What several students say together, and how each of them agrees with the teacher."""

    training: NDArray[np.float64]  # [N, C]: mean of those that have not seen the text, or of all without folds
    validation: NDArray[np.float64]  # [V, C]: mean of all
    scores: list[Scores]  # of every student, on the validation texts
    mean_scores: Scores  # of the mean
    n_folds: int

    def as_text(self) -> str:
        """A line a student, and one for the mean."""
        lines = [f"student of seed {number}: {_agreement(scores)}" for number, scores in enumerate(self.scores)]
        folds = f", each without one of {self.n_folds} folds" if self.n_folds > 1 else ""
        return "\n".join([*lines, f"mean of {len(lines)} students{folds}: {_agreement(self.mean_scores)}"])


def fold(text: str, n_folds: int) -> int:
    """The text's fold, from 0; by its hash, so that a text with several targets is in one fold."""
    digest = hashlib.sha256(b"fold\0" + text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % n_folds


def taught_by_several(
    rows: Sequence[SoftLabel],
    majority: NDArray[np.int64],
    n_members: int,
    n_folds: int,
    work: Work,
    teach: Callable[[int, list[int]], Answers],
) -> Members:
    """Train the students one after another, or read what they said from the work folder.

    Args:
        rows: the training texts.
        majority: int [V], class of the teacher's majority label of every validation text.
        n_folds: 1 to ``n_members``; 1: every student sees every text.
        work: where the answers of students that are done are kept.
        teach: trains the student of a number, from 0, on the texts at these places; gives its answers to all of them.
    """
    folds = np.array([fold(row.text, n_folds) for row in rows])
    sums, counts, scores = np.zeros(()), np.zeros(len(rows)), list[Scores]()
    validation = np.zeros(())
    for member in range(n_members):
        unseen = folds == member % n_folds if n_folds > 1 else np.ones(len(rows), dtype=bool)
        kept = np.flatnonzero(~unseen) if n_folds > 1 else np.arange(len(rows))
        if not len(kept):
            raise UserError(f"{len(rows)} training texts are too few for {n_folds} folds; take fewer, or 1 for none (--folds 1)")
        on_training, on_validation = _stored(work, member) or _store(work, member, teach(member, kept.tolist()))
        sums = sums + np.where(unseen[:, None], on_training, 0)
        counts += unseen
        validation = validation + on_validation / n_members
        scores.append(metrics.scores(on_validation, majority))
    return Members(sums / counts[:, None], validation, scores, metrics.scores(validation, majority), n_folds)


def mixed(target: list[float], mean: NDArray[np.float64], teacher_weight: float) -> list[float]:
    """The teacher's target and the students' mean answer, weighted, [C]. Args: target [C]; mean float [C]; weight 0 to 1."""
    return [teacher_weight * told + (1 - teacher_weight) * float(said) for told, said in zip(target, mean, strict=True)]


def _store(work: Work, member: int, answers: Answers) -> Answers:
    """Keep a student's answers, and forget its states."""
    if work.writes:
        work.claim()
        data = io.BytesIO()
        np.savez(data, training=answers[0], validation=answers[1])
        atomic.write_file(work.folder / f"seed-{member}.npz", data.getvalue())
        work.forget(f"seed-{member}")
    return answers


def _stored(work: Work, member: int) -> Answers | None:
    """The answers that an earlier process kept."""
    path = work.folder / f"seed-{member}.npz"
    if not path.is_file():
        return None
    with np.load(path) as found:
        return found["training"], found["validation"]


def _agreement(scores: Scores) -> str:
    """`accuracy ..., macro-F1 ...`."""
    return f"accuracy {scores['accuracy'].as_text()}, macro-F1 {scores['macro_f1'].as_text()}"
