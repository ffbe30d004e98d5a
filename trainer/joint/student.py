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
from potstill.contract.questions.kind_scores import MAIN, scores_of
from potstill.contract.questions.probabilities import joint_probs
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.contract.scores.record import Scores
from potstill.trainer.data.answered import AnsweredRows, majorities, places_of
from potstill.trainer.joint.calibration import QuestionCalibration, calibrate_questions
from potstill.trainer.joint.intermediate_teacher import answered, open_answering_student, pool_rows
from potstill.trainer.joint.losses import joint_goal
from potstill.trainer.joint.targets import joint_targets, output_ranges
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.start import backbone_of
from potstill.trainer.training.ensemble import EnsembleAnswers, MemberProbs, train_ensemble
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
    ensemble: EnsembleAnswers | None = None  # several students whose mean answer it was trained on

    def probs(self, texts: Texts) -> NDArray[np.float64]:
        """float64 [N, outputs]: calibrated answers to (text, target) pairs, question by question."""
        return joint_probs([one.head for one in self.calibrations], self.encoder.logits(self.encoder.encode(texts)))


def train_joint(job: TrainingJob, task: Questionnaire, rows: AnsweredRows, work: WorkFolder | None = None) -> JointTraining:
    """Train a student on all questions at once, and calibrate it on each.

    With several seeds one is trained for each, and their mean answer is distilled into one more. Another student's answers take
    the place of the soft labels, but for calibration and scores.

    Args:
        task: the job's.
        work: where states are kept and looked for; None: nowhere.
    Raises:
        FormatError: if a folder or file that the configuration names is malformed.
        UserError: if the rows do not allow the training, the loss stops being a number, or the disk refuses a state.
        StoppedError: if a signal came; the same call goes on from there.
    """
    with torch_threads(job.config.threads):
        ensemble = _train_members(job, task, rows, work) if job.config.seeds > 1 else None
        made = _train_one(job, task, rows, StateFolder(work, "student") if work else None, ensemble)
    return replace(made, ensemble=ensemble)


def _train_one(
    job: TrainingJob,
    task: Questionnaire,
    rows: AnsweredRows,
    states: StateFolder | None = None,
    ensemble: EnsembleAnswers | None = None,
) -> JointTraining:
    """Train one student, and calibrate it on each question; raises as :func:`train_joint`."""
    config = job.config
    set_seed(config.seed)
    teacher = open_answering_student(Path(config.from_student), task) if config.from_student else None
    labelled = [*rows.training, *rows.validation]
    pool = pool_rows(Path(config.pool), labelled, config.validation_share) if config.pool else []
    training, validation = rows.training, rows.validation
    start = begin(job, texts_of([*training, *pool]), texts_of(validation), states, teacher.encoder if teacher else None)
    if teacher:  # validation rows choose the epoch only: the student is scored on the soft labels
        training, validation = answered(teacher, [*training, *pool]), answered(teacher, validation)
    targets = joint_targets(training, task.questions, config, ensemble.training if ensemble else None)
    held_out = joint_targets(validation, task.questions, config, ensemble.validation if ensemble else None)
    goal = joint_goal(task.questions, targets, config)
    examples = _examples(start.student, training, targets), _examples(start.student, validation, held_out)
    settings = with_head_rate(config, start, len(training))
    fitted = fit(start.student, *examples, settings, job.progress, states, goal)
    found = calibrate_questions(start.student, task.questions, rows, config)
    return JointTraining(start.student, replace(fitted, notes=start.notes), found)


def _train_members(job: TrainingJob, task: Questionnaire, rows: AnsweredRows, work: WorkFolder | None) -> EnsembleAnswers:
    """Train the students of the seeds that follow the configuration's own, and average their answers."""

    def train_member(member: int, places: list[int]) -> MemberProbs:
        config = replace(job.config, seed=(job.config.seed + member) % 2**32, precision=None, coverage=None)
        seen = replace(rows, training=[rows.training[place] for place in places])
        for question in task.questions:
            if not len(places_of(seen.training, question)):
                raise UserError(
                    f"no text outside one of {config.n_folds} folds answers {question.name}; set fewer folds, or --folds 1 for none"
                )
        states = StateFolder(work, f"seed-{member}") if work else None
        student = _train_one(replace(job, config=config), task, seen, states)
        return student.probs(texts_of(rows.training)), student.probs(texts_of(rows.validation))

    def score(probs: NDArray[np.float64]) -> Scores:
        found = {}
        for question, outputs in zip(task.questions, output_ranges(task.questions), strict=True):
            own = probs[places_of(rows.validation, question), outputs]
            values = question.level_values if question.kind == "degree" else None
            metric, agreed = MAIN[question.kind], majorities(rows.validation, question)
            found[question.name] = scores_of(question.kind, own, agreed, values=values)[metric]
        return found

    return train_ensemble([row.text for row in rows.training], job.config, work, train_member, score)


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
