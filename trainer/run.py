"""Training from end to end: a task and its soft labels in, a checkpoint out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import set_seed

from potstill.contract import checkpoint as record
from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import Task, as_task
from potstill.models.catalog import ModelFolder
from potstill.trainer.calibrate_held_out import Judgement, judge
from potstill.trainer.calibration.temperature import calibrated
from potstill.trainer.config import TrainConfig
from potstill.trainer.data import selection as agreement
from potstill.trainer.data.selection import is_validation, split
from potstill.trainer.data.student_labels import guided, open_guide, unlabelled
from potstill.trainer.run_report import TrainReport
from potstill.trainer.students.checkpoint import Held, save_checkpoint
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.families import new_student, reading_of
from potstill.trainer.students.start import backbone_of, file_digests, find_start
from potstill.trainer.training.ensemble import Answers, Members, mixed, taught_by_several
from potstill.trainer.training.fit import Examples, Fit, fit
from potstill.trainer.training.loop import Part, Progress
from potstill.trainer.training.losses import certainty, find_objective, majority_target, smoothed
from potstill.trainer.training.pretrain import Texts, pretrain
from potstill.trainer.training.resume import MadeOf, Unfinished, Work, work_folder

_TRAIN = TrainConfig()


def train(
    task: Task | str | Path,
    soft_labels: str | Path,
    checkpoint: str | Path,
    config: TrainConfig = _TRAIN,
    progress: Progress | None = None,
    unfinished: Unfinished = "resume",
) -> TrainReport:
    """Train a student on soft labels and write it to ``checkpoint``.

    Validation texts are those of the split by hash that any path could label, whatever their agreement: the student will meet the
    contested texts too. With one seed, one number of threads and one machine without an accelerator, the weights come out the same,
    also when the run was killed and goes on from its last state.

        >>> config = potstill.TrainConfig(epochs=2, max_tokens=64)
        >>> report = potstill.train("task.toml", "out/soft_labels.parquet", "student", config)
        >>> report.student.labels
        ['bullish', 'bearish', 'neutral']

    Args:
        task: the task that the soft labels were made for, or its file.
        soft_labels: a .parquet or .jsonl file.
        checkpoint: the folder to write; one that is already there is replaced when the new one is whole.
        progress: told (stage, steps done, steps planned, loss of the last step).
        unfinished: what to do with the work folder of a run that was killed.
    Raises:
        FormatError: if the file or the backbone is malformed.
        UserError: if the labels belong to another task, too few texts are left, the loss stops being a number, the disk refuses, or
            an unfinished run of something else is there.
        StoppedError: if Ctrl-C or SIGTERM came; the same call goes on from there.
    """
    task, soft_labels, checkpoint = as_task(task), Path(soft_labels), Path(checkpoint)
    start = time.perf_counter()
    find_objective(config.loss)  # a wrong name is found before anything is read
    begun = find_start(config)
    training, validation = sides(soft_labels, read_rows(soft_labels, task), config.validation_share)
    selection = agreement.by_agreement(training, config.min_agreement)
    agreement.check_enough(soft_labels, training, selection, config.min_agreement)
    held = Held(selection.kept, validation)
    made_of = _made_of(task, soft_labels, config)
    main = is_main_process()
    progress = progress if main else None
    with work_folder(checkpoint, made_of, unfinished, config.save_every, writes=main) as work, threads(config.threads):
        members = _members(task, begun, held, config, progress, work) if config.seeds > 1 else None
        encoder, fitted = fit_student(task, begun, held, config, progress, Part(work, "student"), members)
        judgement = judge(encoder, task.label_names, validation, config)
        student = _student(task, config, begun, held, judgement, soft_labels)
        student = msgspec.structs.replace(student, validation_losses=fitted.validation_losses, kept_epoch=fitted.kept_epoch)
        if main:
            save_checkpoint(checkpoint, encoder, student, task, held)
    warnings = tuple(agreement.label_warnings(held.training, task.label_names))
    return TrainReport(checkpoint, student, selection, fitted, judgement, warnings, time.perf_counter() - start, members)


def _made_of(task: Task, soft_labels: Path, config: TrainConfig) -> MadeOf:
    """All that decides the student, but for the machine."""
    settings = asdict(config)
    for name in ("threads", "save_every"):
        del settings[name]
    return settings | {"task": task.digest, "soft labels": digest.of_file(soft_labels)} | file_digests(config)


def is_main_process() -> bool:
    """Whether this process writes and prints: the first of those that `accelerate launch` started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def read_rows(path: Path, task: Task) -> list[SoftLabel]:
    """The rows, all of them made for this very task by one teacher."""
    rows = read_soft_labels(path, labels=task.label_names)
    for row in rows:
        if row.task_digest != task.digest:
            raise UserError(
                f"{path}: made for another version of task {task.name!r} (digest {row.task_digest[:12]}…, "
                f"this one is {task.digest[:12]}…); label again with: potstill label, "
                "or train with the task file of then"
            )
        if bool(row.target) != task.input.target:
            found = "has a" if row.target else "lacks its"
            raise UserError(f"{path}: text {row.id!r} {found} target, against input.target of the task; label again")
    teachers = {row.teacher_digest for row in rows}
    if len(teachers) > 1:
        raise UserError(f"{path}: holds labels of {len(teachers)} teachers; train on those of one")
    return rows


def sides(path: Path, rows: list[SoftLabel], share: float) -> tuple[list[SoftLabel], list[SoftLabel]]:
    """(training, validation) rows; the latter are those that any path could label. Raises UserError when a side is empty."""
    training, validation = split(rows, share)
    validation = [row for row in validation if agreement.was_read(row)]
    if not training or not validation:
        empty = "validation" if training else "training"
        raise UserError(
            f"{path}: the {empty} side of the split is empty ({len(rows)} texts, validation share {share:g}); label more texts"
        )
    return training, validation


def _members(task: Task, begun: ModelFolder, held: Held, config: TrainConfig, progress: Progress | None, work: Work) -> Members:
    """Students of the seeds that follow the configuration's own, and what they say together."""

    def teach(member: int, places: list[int]) -> Answers:
        own = replace(config, seed=(config.seed + member) % 2**32)
        seen = Held([held.training[place] for place in places], held.validation)
        encoder, _ = fit_student(task, begun, seen, own, progress, Part(work, f"seed-{member}"))
        temperature = judge(encoder, task.label_names, held.validation, replace(own, precision=None, coverage=None)).temperature
        on_training, on_validation = (
            calibrated(
                encoder.logits(encoder.encode([(row.text, row.target) for row in rows])).astype(np.float64), temperature.value
            )
            for rows in (held.training, held.validation)
        )
        return on_training, on_validation

    majority = np.array([majority_target(row, task.label_names) for row in held.validation]).argmax(axis=1)
    return taught_by_several(held.training, majority, config.seeds, config.n_folds, work, teach)


def fit_student(
    task: Task,
    begun: ModelFolder,
    held: Held,
    config: TrainConfig,
    progress: Progress | None,
    part: Part | None,
    members: Members | None = None,
) -> tuple[Encoder, Fit]:
    """The trained student. The seed is set first, so that the head is drawn alike whatever ran before.

    Args:
        begun: the folder whose weights it starts from, see :func:`potstill.trainer.students.start.find_start`.
    """
    set_seed(config.seed)
    guide = open_guide(Path(config.from_student), task) if config.from_student else None
    pool = _pool(config, held)
    start = new_student(task, begun, config, guide, [*held.training, *pool])
    encoder = start.student
    notes = [start.note] if start.note else []
    if config.masked_reading[1]:
        texts = Texts(
            *(encoder.encode([(row.text, row.target) for row in rows]) for rows in ([*held.training, *pool], held.validation))
        )
        notes.append(pretrain(encoder, reading_of(encoder, begun, config), texts, config, progress, part).as_text())
    taught = held.training if guide is None else guided(guide, [*held.training, *pool])
    judging = held.validation if guide is None else guided(guide, held.validation)  # of epochs, never of the student
    training, validation = (
        _examples(encoder, task.label_names, rows, config, answers)
        for rows, answers in (
            (taught, members.training if members else None),
            (judging, members.validation if members else None),
        )
    )
    if start.has_trained_head and config.head_rate is None:  # it does not start from nothing
        config = replace(config, head_rate=config.rates(len(taught))[0])
    fitted = fit(encoder, training, validation, config, progress, part)
    return encoder, replace(fitted, notes=tuple(notes))


def _pool(config: TrainConfig, held: Held) -> list[SoftLabel]:
    """The texts without labels, less those that are held out."""
    if not config.pool:
        return []
    known = {(row.text, row.target) for row in [*held.training, *held.validation]}
    rows = unlabelled(Path(config.pool), held.validation[0])
    return [row for row in rows if (row.text, row.target) not in known and not is_validation(row.text, config.validation_share)]


def _examples(
    encoder: Encoder, labels: list[str], rows: list[SoftLabel], config: TrainConfig, answers: NDArray[np.float64] | None
) -> Examples:
    """The rows as the loop takes them; where several students answered them, float [N, C], their answers are mixed in."""
    objective = find_objective(config.loss)
    features = encoder.encode([(row.text, row.target) for row in rows])
    targets = [objective.target(row, labels) for row in rows]
    if answers is not None:
        targets = [mixed(target, mean, config.teacher_weight) for target, mean in zip(targets, answers, strict=True)]
    targets = [smoothed(target, config.label_smoothing) for target in targets]
    weights = [certainty(row, len(labels)) if config.weigh_by == "certainty" else 1.0 for row in rows]
    if not any(weights):
        raise UserError(
            f"all {len(rows)} soft labels are even shares, so that none would count; use weighting even, or label again"
        )
    return Examples(features, targets, weights)


def _student(task: Task, config: TrainConfig, begun: ModelFolder, held: Held, judgement: Judgement, soft_labels: Path) -> Student:
    """The record that goes into `student.json`."""
    backbone = backbone_of(begun)
    thresholds, sets = judgement.thresholds, judgement.sets
    return Student(
        format=record.FORMAT,
        task_name=task.name,
        labels=task.label_names,
        family=config.family,
        target=task.input.target,
        max_tokens=config.max_ids,
        temperature=judgement.temperature.value,
        thresholds=thresholds.by_label if thresholds else None,
        loss=config.loss,
        seed=config.seed,
        task_digest=task.digest,
        soft_labels_digest=digest.of_file(soft_labels),
        teacher_digest=held.validation[0].teacher_digest,
        backbone=backbone.name,
        backbone_digest=backbone.sha256,
        n_train=len(held.training),
        n_validation=len(held.validation),
        scores=judgement.scores,
        precision=thresholds.precision if thresholds else None,
        conformal=sets.conformal if sets else None,
        label_shares=judgement.label_shares,
        init=config.init,
        init_digest=begun.sha256 if config.init else None,
    )


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Let torch use ``n`` CPU threads for a while; None leaves it alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
