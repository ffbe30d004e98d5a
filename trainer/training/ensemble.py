"""Several students of different seeds, and their mean answers to texts that they were not trained on.

A student that was trained on a text's label repeats it, errors of the teacher included. So the texts are split into folds, every
student leaves one fold out, and a text's mean is taken over the students that left it out (cross-fitting; Wolpert 1992, Neural
Networks 5(2), "stacked generalization"). With as many folds as students this costs no further training.

Axes: N training texts, V validation texts, C classes; of several questions all of them side by side.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.scores.record import Scores
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.selection import text_hash
from potstill.trainer.training.resume import WorkFolder

# calibrated probabilities of one student on training [N, C] and validation [V, C] texts
MemberProbs = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class EnsembleAnswers:
    """Mean answers of several students, and the agreement of each with the teacher."""

    training: NDArray[np.float64]  # [N, C]: mean of those that were not trained on the text, or of all without folds
    validation: NDArray[np.float64]  # [V, C]: mean of all
    scores: list[Scores]  # of every student, on the validation texts
    mean_scores: Scores  # of the mean
    n_folds: int

    def as_text(self) -> str:
        """A line for each student, and one for the mean."""
        lines = [f"student of seed {number}: {_agreement(scores)}" for number, scores in enumerate(self.scores)]
        folds = f", each without one of {self.n_folds} folds" if self.n_folds > 1 else ""
        return "\n".join([*lines, f"mean of {len(lines)} students{folds}: {_agreement(self.mean_scores)}"])


def fold_of(text: str, n_folds: int) -> int:
    """The text's fold, from 0; by its hash, so that a text with several targets is in one fold."""
    return text_hash(text, "fold") % n_folds


def train_ensemble(
    texts: Sequence[str],
    config: TrainConfig,
    work: WorkFolder | None,
    train_member: Callable[[int, list[int]], MemberProbs],
    score: Callable[[NDArray[np.float64]], Scores],
) -> EnsembleAnswers:
    """Train the students one after another, or read their answers from the work folder.

    Args:
        texts: those trained on.
        config: the numbers of students and of folds; with one fold every student is trained on every text.
        work: where the answers of finished students are kept; None: nowhere.
        train_member: trains the student of a number, from 0, on the texts at these indices, and answers all texts.
        score: the agreement of answers to the validation texts, float [V, C], with the teacher.
    Raises:
        UserError: if a fold holds all texts, so that nothing is left to train on.
    """
    n_members, n_folds = config.seeds, config.n_folds
    folds = np.array([fold_of(text, n_folds) for text in texts])
    sums, counts, scores = np.zeros(()), np.zeros(len(texts)), list[Scores]()
    validation = np.zeros(())
    for member in range(n_members):
        unseen = folds == member % n_folds if n_folds > 1 else np.ones(len(texts), dtype=bool)
        kept = np.flatnonzero(~unseen) if n_folds > 1 else np.arange(len(texts))
        if not len(kept):
            raise UserError(f"{len(texts)} training texts are too few for {n_folds} folds; set fewer folds, or --folds 1 for none")
        on_training, on_validation = _stored(work, member) or _store(work, member, train_member(member, kept.tolist()))
        sums = sums + np.where(unseen[:, None], on_training, 0)
        counts += unseen
        validation = validation + on_validation / n_members
        scores.append(score(on_validation))
    return EnsembleAnswers(sums / counts[:, None], validation, scores, score(validation), n_folds)


def _store(work: WorkFolder | None, member: int, answers: MemberProbs) -> MemberProbs:
    """Keep a finished student's answers, and remove its states."""
    if work and work.writes:
        work.claim()
        data = io.BytesIO()
        np.savez(data, training=answers[0], validation=answers[1])
        atomic.write_file(work.folder / f"seed-{member}.npz", data.getvalue())
        work.forget(f"seed-{member}")
    return answers


def _stored(work: WorkFolder | None, member: int) -> MemberProbs | None:
    """The answers that an earlier process kept."""
    path = work.folder / f"seed-{member}.npz" if work else None
    if not path or not path.is_file():
        return None
    with np.load(path) as found:
        return found["training"], found["validation"]


def _agreement(scores: Scores) -> str:
    """`accuracy ..., macro-F1 ...`; of several questions the main metric of each."""
    if "accuracy" not in scores:
        return ", ".join(f"{name} {score.as_text()}" for name, score in scores.items())
    return f"accuracy {scores['accuracy'].as_text()}, macro-F1 {scores['macro_f1'].as_text()}"
