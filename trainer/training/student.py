"""One student from its initial weights to its calibration: masked pretraining, targets, training loop, ensemble.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import set_seed

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.scores import metrics
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.models.catalog import ModelFolder
from potstill.trainer.calibration.held_out import HeldOutCalibration, calibrate_held_out
from potstill.trainer.calibration.temperature import calibrated_probs
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.rows import TrainingRows, select_rows
from potstill.trainer.data.selection import is_validation
from potstill.trainer.data.targets import certainty, majority_classes, mixed_target, smoothed
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.start import InitialStudent, find_start, new_student
from potstill.trainer.training.ensemble import EnsembleAnswers, MemberProbs, train_ensemble
from potstill.trainer.training.fit import FitResult, WeightedExamples, fit
from potstill.trainer.training.intermediate_teacher import open_intermediate_teacher, relabelled, unlabelled_rows
from potstill.trainer.training.loop import StateFolder, TrainProgress
from potstill.trainer.training.losses import find_objective
from potstill.trainer.training.masking import masked_objective
from potstill.trainer.training.pretrain import PretrainingTexts, pretrain
from potstill.trainer.training.resume import WorkFolder

Texts = Sequence[tuple[str, str | None]]  # (text, target)


@dataclass(frozen=True)
class TrainingJob:
    """The settings that all students of a run share."""

    task: AnyTask
    start: ModelFolder  # the weights that they start from, see students.start.find_start
    config: TrainConfig
    progress: TrainProgress | None = None


@dataclass(frozen=True)
class TrainedStudent:
    """A calibrated student in memory."""

    encoder: Encoder
    fit: FitResult
    calibration: HeldOutCalibration
    ensemble: EnsembleAnswers | None = None  # the students whose mean answer it was trained on, if there were several

    def probs(self, texts: Sequence[tuple[str, str | None]]) -> NDArray[np.float64]:
        """float64 [N, C]: calibrated answers to (text, target) pairs; rows sum to 1."""
        return calibrated_probs(self.encoder, texts, self.calibration.temperature.value)


def train_in_memory(
    source: str, rows: list[SoftLabel], task: Task, config: TrainConfig, progress: TrainProgress | None = None
) -> TrainedStudent:
    """Train a student as `potstill train` does, without writing anything.

    Args:
        source: where the rows come from, for messages.
        rows: soft labels of this task.
        progress: called with (stage, steps done, steps planned, loss of the last step).
    Raises:
        FormatError: if the backbone is malformed.
        UserError: if too few texts are left, or the loss stops being a number.
    """
    find_objective(config.loss)
    start = find_start(config)
    selected, _ = select_rows(source, rows, config.validation_share, config.min_agreement)
    return train_student(TrainingJob(task, start, config, progress), selected)


def train_student(job: TrainingJob, rows: TrainingRows, work: WorkFolder | None = None) -> TrainedStudent:
    """Train and calibrate a student; with several seeds, train one for each and distil their mean answer into one more.

    Args:
        work: where states are kept and looked for; None: nowhere.
    Raises:
        FormatError: if a folder or file that the configuration names is malformed.
        UserError: if the rows do not allow the training, the loss stops being a number, or the disk refuses a state.
        StoppedError: if a signal came; the same call goes on from there.
    """
    with torch_threads(job.config.threads):
        ensemble = _train_members(job, rows, work) if job.config.seeds > 1 else None
        encoder, fitted = fit_student(job, rows, StateFolder(work, "student") if work else None, ensemble)
        calibration = calibrate_held_out(encoder, job.task.label_names, rows.validation, job.config)
    return TrainedStudent(encoder, fitted, calibration, ensemble)


def fit_student(
    job: TrainingJob, rows: TrainingRows, states: StateFolder | None = None, ensemble: EnsembleAnswers | None = None
) -> tuple[Encoder, FitResult]:
    """Train a student without calibrating it. The seed is set first, so the head is the same whatever ran before.

    Args:
        states: where states are kept and looked for; None: nowhere.
        ensemble: answers that are mixed into the targets of the labelled rows.
    Raises:
        as :func:`train_student`.
    """
    config = job.config
    set_seed(config.seed)
    teacher = open_intermediate_teacher(Path(config.from_student), job.task) if config.from_student else None
    pool = _pool(config, rows)
    sides = _texts([*rows.training, *pool]), _texts(rows.validation)
    start = begin(job, *sides, states, teacher.encoder if teacher else None)
    encoder = start.student
    training, validation = rows.training, rows.validation
    if teacher:  # validation rows choose the epoch only: the student is scored on the soft labels
        training, validation = relabelled(teacher, [*training, *pool]), relabelled(teacher, validation)
    labels = job.task.label_names
    examples = _examples(encoder, labels, training, config, ensemble.training if ensemble else None)
    held_out = _examples(encoder, labels, validation, config, ensemble.validation if ensemble else None)
    fitted = fit(encoder, examples, held_out, with_head_rate(config, start, len(training)), job.progress, states)
    return encoder, replace(fitted, notes=start.notes)


def begin(
    job: TrainingJob, training: Texts, validation: Texts, states: StateFolder | None = None, teacher: Encoder | None = None
) -> InitialStudent:
    """A student with its first weights, after masked pretraining where that is configured.

    Args:
        training, validation: (text, target) of the two sides.
        states: where states of the pretraining are kept and looked for; None: nowhere.
        teacher: the student whose answers are trained on, if there is one.
    Raises:
        as :func:`train_student`.
    """
    config = job.config
    start = new_student(job.task, job.start, config, teacher, training)
    if not config.pretraining[1]:
        return start
    encoder = start.student
    texts = PretrainingTexts(encoder.encode(training), encoder.encode(validation))
    objective = masked_objective(encoder, job.start.path, config)
    pretrained = pretrain(encoder, objective, texts, config, job.progress, states)
    return replace(start, notes=(*start.notes, pretrained.as_text()))


def with_head_rate(config: TrainConfig, start: InitialStudent, n_texts: int) -> TrainConfig:
    """The settings with the body's rate for a head that is trained already: it has nothing to catch up with."""
    if start.has_trained_head and config.head_rate is None:
        return replace(config, head_rate=config.rates(n_texts)[0])
    return config


def _train_members(job: TrainingJob, rows: TrainingRows, work: WorkFolder | None) -> EnsembleAnswers:
    """Train the students of the seeds that follow the configuration's own, and average their answers."""

    def train_member(member: int, places: list[int]) -> MemberProbs:
        config = replace(job.config, seed=(job.config.seed + member) % 2**32)
        seen = TrainingRows([rows.training[place] for place in places], rows.validation)
        states = StateFolder(work, f"seed-{member}") if work else None
        encoder, fitted = fit_student(replace(job, config=config), seen, states)
        uncertain = replace(config, precision=None, coverage=None)
        student = TrainedStudent(encoder, fitted, calibrate_held_out(encoder, labels, rows.validation, uncertain))
        on_training, on_validation = (student.probs(_texts(side)) for side in (rows.training, rows.validation))
        return on_training, on_validation

    labels = job.task.label_names
    majority = majority_classes(rows.validation, labels)
    texts = [row.text for row in rows.training]
    return train_ensemble(texts, job.config, work, train_member, lambda probs: metrics.scores(probs, majority))


def _pool(config: TrainConfig, rows: TrainingRows) -> list[SoftLabel]:
    """The unlabelled texts of the pool, without those that are held out."""
    if not config.pool:
        return []
    known = {(row.text, row.target) for row in [*rows.training, *rows.validation]}
    found = unlabelled_rows(Path(config.pool), rows.validation[0])
    return [row for row in found if (row.text, row.target) not in known and not is_validation(row.text, config.validation_share)]


def _texts(rows: Sequence[SoftLabel]) -> Texts:
    """The rows' (text, target)."""
    return [(row.text, row.target) for row in rows]


def _examples(
    encoder: Encoder, labels: list[str], rows: list[SoftLabel], config: TrainConfig, answers: NDArray[np.float64] | None
) -> WeightedExamples:
    """The rows as the loop takes them. Args: answers, the ensemble's, float [N, C]; they are mixed into the targets."""
    objective = find_objective(config.loss)
    targets = [objective.target(row, labels) for row in rows]
    if answers is not None:
        targets = [mixed_target(target, mean, config.teacher_weight) for target, mean in zip(targets, answers, strict=True)]
    targets = [smoothed(target, config.label_smoothing) for target in targets]
    weights = [certainty(row, len(labels)) if config.weigh_by == "certainty" else 1.0 for row in rows]
    if not any(weights):
        raise UserError(f"all {len(rows)} soft labels are even shares, so every weight is 0; use --weighting even, or label again")
    return WeightedExamples(encoder.encode(_texts(rows)), targets, weights)


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Let torch use ``n`` CPU threads inside the block; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
