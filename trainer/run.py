"""Training from end to end: a task and its soft labels in, a checkpoint out."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from potstill.contract import checkpoint as record
from potstill.contract.checkpoint import Student, UsedGold
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.interchange.notebook import Shown
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, as_any_task
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.trainer.calibration.held_out import HeldOutCalibration
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import AnsweredRows, one_choice, read_answers, select_answers
from potstill.trainer.data.gold_labels import answers_with_gold, labels_with_gold, read_gold_labels
from potstill.trainer.data.rows import TrainingRows, select_rows
from potstill.trainer.data.selection import Selection, label_warnings, size_note
from potstill.trainer.joint.student import JointTraining, joint_student, train_joint
from potstill.trainer.students.checkpoint import save_checkpoint
from potstill.trainer.students.start import backbone_of, file_digests, find_start
from potstill.trainer.training.ensemble import EnsembleAnswers
from potstill.trainer.training.fit import FitResult
from potstill.trainer.training.loop import TrainProgress
from potstill.trainer.training.losses import find_objective
from potstill.trainer.training.resume import Fingerprint, Unfinished, work_folder
from potstill.trainer.training.student import TrainedStudent, TrainingJob, torch_threads, train_student


@dataclass(frozen=True, repr=False)
class TrainReport(Shown):
    """A finished run: the checkpoint, and how it was made."""

    checkpoint: Path
    student: Student
    selection: Selection
    fit: FitResult
    calibration: HeldOutCalibration
    warnings: tuple[str, ...]
    seconds: float
    ensemble: EnsembleAnswers | None = None  # several students whose mean answer this one was trained on

    @property
    def n_kept(self) -> int:
        """Texts that were trained on."""
        return len(self.selection.kept)

    @property
    def n_dropped(self) -> int:
        """Texts on the training side that were not trained on."""
        return self.selection.n_dropped

    def as_text(self) -> str:
        """A few lines: warnings first, the checkpoint last."""
        student = self.student
        scores = student.scores["validation"]
        lines = [
            *(f"warning: {warning}" for warning in self.warnings),
            f"trained on {self.n_kept} texts with loss {student.loss}; left out {self.n_dropped} "
            f"({self.selection.n_disagreed} below the minimum agreement, {self.selection.n_unread} that no path could label)",
            *([student.used_gold.as_text()] if student.used_gold else []),
            *self.fit.notes,
            f"kept {self.fit.as_text()}",
            self.calibration.as_text(),
            *(self.ensemble.as_text().splitlines() if self.ensemble else []),
            f"agrees with the teacher on {student.n_validation} held-out texts: "
            f"accuracy {scores['accuracy'].as_text()}, macro-F1 {scores['macro_f1'].as_text()}",
            *([f"note: {note}"] if (note := size_note(self.n_kept)) else []),
            f"wrote {self.checkpoint} in {self.seconds:.0f} s",
        ]
        return "\n".join(lines)

    def cells(self) -> list[list[str]]:
        """Texts that were learned from, and the agreement with the teacher on those held out, with intervals."""
        scores = self.student.scores["validation"]
        held_out = [str(self.student.n_validation), scores["accuracy"].as_text(), scores["macro_f1"].as_text()]
        return [["trained on", "held out", "same label as the teacher", "macro-F1"], [str(self.n_kept), *held_out]]


@dataclass(frozen=True, repr=False)
class JointReport(Shown):
    """A finished run on several questions: the checkpoint, and how it was made."""

    checkpoint: Path
    student: Student
    rows: AnsweredRows
    training: JointTraining
    seconds: float

    def as_text(self) -> str:
        """A few lines for each question, the checkpoint last."""
        rows, left_out = self.rows, []
        for name, n_disagreed in rows.n_disagreed.items():
            if n_disagreed + rows.n_unread[name]:
                left_out.append(f"{name} {n_disagreed} below the minimum agreement, {rows.n_unread[name]} that no path could label")
        lines = [
            f"trained on {len(rows.training)} texts with loss {self.student.loss}; {len(rows.validation)} were held out",
            *([f"left out of the answers: {'; '.join(left_out)}"] if left_out else []),
            *([self.student.used_gold.as_text()] if self.student.used_gold else []),
            *self.training.fit.notes,
            f"kept {self.training.fit.as_text()}",
            *(self.training.ensemble.as_text().splitlines() if self.training.ensemble else []),
            *(one.as_text() for one in self.training.calibrations),
            f"wrote {self.checkpoint} in {self.seconds:.0f} s",
        ]
        return "\n".join(lines)


_TRAIN = TrainConfig()


def train(
    task: AnyTask | str | Path,
    soft_labels: str | Path,
    checkpoint: str | Path,
    config: TrainConfig = _TRAIN,
    progress: TrainProgress | None = None,
    unfinished: Unfinished = "resume",
    *,
    question: str | None = None,
) -> TrainReport | JointReport:
    """Train a student on soft labels and write it to ``checkpoint``.

    Validation texts are all texts on their side of the hash split that any path could label, whatever their agreement: the student
    will meet contested texts too. With the same seed and number of threads on the same machine without an accelerator, the weights
    come out the same, also when the run was killed and resumed. A task of several questions gets one student, with a range of
    outputs for each; a row of its soft labels may answer some of the questions only.

        >>> config = potstill.TrainConfig(epochs=2, max_tokens=64)
        >>> report = potstill.train("task.toml", "out/soft_labels.parquet", "student", config)
        >>> report.student.labels
        ['bullish', 'bearish', 'neutral']

    Args:
        task: the task that the soft labels were made for, or its file.
        soft_labels: a .parquet or .jsonl file.
        checkpoint: the folder to write; one that is already there is replaced when the new one is complete.
        progress: called with (stage, steps done, steps planned, loss of the last step).
        unfinished: what to do with the work folder of a run that was killed.
        question: of several, the one to train an ordinary student of one choice for, or one tag as `question/tag`; None: all.
    Raises:
        FormatError: if the file or the backbone is malformed.
        UserError: if the labels belong to another task, too few texts are left, the loss stops being a number, the disk refuses, or
            there is an unfinished run with other settings.
        StoppedError: if Ctrl-C or SIGTERM came; the same call goes on from there.
    """
    task, soft_labels, checkpoint = as_any_task(task), Path(soft_labels), Path(checkpoint)
    began = time.perf_counter()
    find_objective(config.loss)  # a wrong name is found before anything is read
    if isinstance(task, Questionnaire) and question is None:
        return _train_several(TrainingJob(task, find_start(config), config, progress), task, soft_labels, checkpoint, unfinished)
    start = find_start(config)
    if question is not None and config.use_gold:
        raise UserError("use_gold takes gold labels of all questions of a task; leave question out, or use_gold")
    task, labelled = one_choice(soft_labels, task, question)
    rows, selection, used = _selected(str(soft_labels), labelled, task, config)
    main = is_main_process()
    fingerprint = _fingerprint(task, soft_labels, config)
    with work_folder(checkpoint, fingerprint, unfinished, config.save_every, writes=main) as work, torch_threads(config.threads):
        job = TrainingJob(task, start, config, progress if main else None)
        trained = train_student(job, rows, work)
        student = _student(task, job, rows, trained, digest.of_file(soft_labels))
        student = msgspec.structs.replace(student, used_gold=used)
        if main:
            save_checkpoint(checkpoint, trained.encoder, student, task, rows)
    return TrainReport(
        checkpoint=checkpoint,
        student=student,
        selection=selection,
        fit=trained.fit,
        calibration=trained.calibration,
        warnings=tuple(label_warnings(rows.training, task.label_names)),
        seconds=time.perf_counter() - began,
        ensemble=trained.ensemble,
    )


def _selected(
    source: str, labelled: list[SoftLabel], task: Task, config: TrainConfig
) -> tuple[TrainingRows, Selection, UsedGold | None]:
    """The rows to train on and to validate with, gold labels among them where that is wanted."""
    with_gold: list[SoftLabel] = []
    used = None
    if config.use_gold:
        gold = read_gold_labels(Path(config.use_gold), task, config.gold_as, config.gold_right)
        labelled, with_gold, used = labels_with_gold(labelled, gold, config.validation_share)
    rows, selection = select_rows(source, labelled, config.validation_share, config.min_agreement)
    return replace(rows, with_gold=with_gold), selection, used


def _train_several(
    job: TrainingJob, task: Questionnaire, soft_labels: Path, checkpoint: Path, unfinished: Unfinished
) -> JointReport:
    """Train a student of several questions; raises as :func:`train`."""
    began, config = time.perf_counter(), job.config
    answers, used = read_answers(soft_labels, task), None
    with_gold: list[SoftAnswers] = []
    if config.use_gold:
        gold = read_gold_labels(Path(config.use_gold), task, config.gold_as, config.gold_right)
        answers, with_gold, used = answers_with_gold(answers, gold, config.validation_share, task.questions)
    rows = select_answers(str(soft_labels), answers, task.questions, config.validation_share, config.min_agreement)
    rows = replace(rows, with_gold=with_gold)
    main = is_main_process()
    fingerprint = _fingerprint(task, soft_labels, config)
    with work_folder(checkpoint, fingerprint, unfinished, config.save_every, writes=main) as work:
        made = train_joint(replace(job, progress=job.progress if main else None), task, rows, work)
        student = joint_student(job, task, rows, made, soft_labels)
        student = msgspec.structs.replace(student, used_gold=used)
        if main:
            save_checkpoint(checkpoint, made.encoder, student, task, rows)
    return JointReport(checkpoint, student, rows, made, time.perf_counter() - began)


def is_main_process() -> bool:
    """Whether this process writes and prints: the first of those that `accelerate launch` started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def _fingerprint(task: AnyTask, soft_labels: Path, config: TrainConfig) -> Fingerprint:
    """Everything that decides the student, except the machine."""
    settings = asdict(config)
    for name in ("threads", "save_every", "use_gold"):  # gold texts count by what they are, not by where
        del settings[name]
    return settings | {"task": task.digest, "soft labels": digest.of_file(soft_labels)} | file_digests(config)


def _student(task: Task, job: TrainingJob, rows: TrainingRows, trained: TrainedStudent, soft_labels_digest: str) -> Student:
    """The record that goes into `student.json`."""
    config = job.config
    backbone, calibration = backbone_of(job.start), trained.calibration
    thresholds, sets = calibration.thresholds, calibration.sets
    return Student(
        format=record.FORMAT,
        task_name=task.name,
        labels=task.label_names,
        family=config.family,
        target=task.input.target,
        max_tokens=config.max_ids,
        temperature=calibration.temperature.value,
        thresholds=thresholds.by_label if thresholds else None,
        loss=config.loss,
        seed=config.seed,
        task_digest=task.digest,
        soft_labels_digest=soft_labels_digest,
        teacher_digest=rows.validation[0].teacher_digest,
        backbone=backbone.name,
        backbone_digest=backbone.sha256,
        n_train=len(rows.training),
        n_validation=len(rows.validation),
        scores=calibration.scores,
        precision=thresholds.precision if thresholds else None,
        conformal=sets.conformal if sets else None,
        label_shares=calibration.label_shares,
        init=config.init,
        init_digest=job.start.sha256 if config.init else None,
        validation_losses=trained.fit.validation_losses,
        kept_epoch=trained.fit.kept_epoch,
    )
