"""A student of several questions: trained on all of them at once, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import set_seed

from potstill.contract import checkpoint as record
from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import AnsweredRows
from potstill.trainer.joint.calibration import QuestionCalibration, calibrate_questions
from potstill.trainer.joint.losses import joint_goal
from potstill.trainer.joint.targets import joint_targets
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.start import backbone_of
from potstill.trainer.training.fit import FitResult, WeightedExamples, fit
from potstill.trainer.training.loop import StateFolder
from potstill.trainer.training.resume import WorkFolder
from potstill.trainer.training.student import Texts, TrainingJob, begin, torch_threads, with_head_rate


@dataclass(frozen=True)
class JointTraining:
    """A trained student of several questions in memory."""

    encoder: Encoder
    fit: FitResult
    calibrations: list[QuestionCalibration]  # by question, in the task's order


def check_joint(config: TrainConfig) -> None:
    """Raise UserError for a setting that a student of several questions does not take."""
    if config.from_student:
        raise UserError("--from answers for a student of one choice; train the student of several questions on its soft labels")
    if config.seeds > 1:
        raise UserError(f"--seeds is {config.seeds}; a student of several questions takes one seed")


def train_joint(job: TrainingJob, task: Questionnaire, rows: AnsweredRows, work: WorkFolder | None = None) -> JointTraining:
    """Train a student on all questions at once, and calibrate it on each.

    Args:
        task: the job's.
        work: where states are kept and looked for; None: nowhere.
    Raises:
        FormatError: if a folder or file that the configuration names is malformed.
        UserError: if the rows do not allow the training, the loss stops being a number, or the disk refuses a state.
        StoppedError: if a signal came; the same call goes on from there.
    """
    config, states = job.config, StateFolder(work, "student") if work else None
    with torch_threads(config.threads):
        set_seed(config.seed)
        start = begin(job, texts_of(rows.training), texts_of(rows.validation), states)
        targets, held_out = (joint_targets(side, task.questions, config) for side in (rows.training, rows.validation))
        goal = joint_goal(task.questions, targets, config)
        examples = _examples(start.student, rows.training, targets), _examples(start.student, rows.validation, held_out)
        settings = with_head_rate(config, start, len(rows.training))
        fitted = fit(start.student, *examples, settings, job.progress, states, goal)
        found = calibrate_questions(start.student, task.questions, rows, config)
    return JointTraining(start.student, replace(fitted, notes=start.notes), found)


def joint_student(job: TrainingJob, task: Questionnaire, rows: AnsweredRows, made: JointTraining, soft_labels: Path) -> Student:
    """The record that goes into `student.json`, but for used gold. Args: soft_labels, the file that was trained on."""
    config, backbone = job.config, backbone_of(job.start)
    return Student(
        format=record.WITH_HEADS,
        task_name=task.name,
        labels=task.label_names,
        family=config.family,
        target=task.input.target,
        max_tokens=config.max_ids,
        temperature=1.0,
        thresholds=None,
        loss=config.loss,
        seed=config.seed,
        task_digest=task.digest,
        soft_labels_digest=digest.of_file(soft_labels),
        teacher_digest=rows.validation[0].teacher_digest,
        backbone=backbone.name,
        backbone_digest=backbone.sha256,
        n_train=len(rows.training),
        n_validation=len(rows.validation),
        scores={},
        init=config.init,
        init_digest=job.start.sha256 if config.init else None,
        validation_losses=made.fit.validation_losses,
        kept_epoch=made.fit.kept_epoch,
        heads=[one.head for one in made.calibrations],
    )


def texts_of(rows: Sequence[SoftAnswers]) -> Texts:
    """The rows' (text, target)."""
    return [(row.text, row.target) for row in rows]


def _examples(encoder: Encoder, rows: Sequence[SoftAnswers], targets: NDArray[np.float64]) -> WeightedExamples:
    """The rows as the loop takes them; what each question weighs is among the targets."""
    return WeightedExamples(encoder.encode(texts_of(rows)), targets.tolist(), [1.0] * len(rows))
