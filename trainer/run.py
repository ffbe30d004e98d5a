"""Training from end to end: a task and its soft labels in, a checkpoint out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from transformers import set_seed

from contract import checkpoint as record
from contract import digest
from contract.checkpoint import Student
from contract.errors import UserError
from contract.soft_label import SoftLabel, read_soft_labels
from contract.task import Task
from models.catalog import ModelFolder, find_backbone
from trainer import agreement
from trainer.config import TrainConfig
from trainer.families import new_student
from trainer.fit import Examples, Fit, Progress, fit
from trainer.guide import guided, open_guide, unlabelled
from trainer.judge import Judgement, judge
from trainer.losses import Objective, certainty, find_objective, smoothed
from trainer.masked_bytes import pretrain
from trainer.report import TrainReport
from trainer.save import Held, save_checkpoint
from trainer.split import is_validation, split
from trainer.students import Encoder


def train(task: Task, soft_labels: Path, checkpoint: Path, config: TrainConfig, progress: Progress | None = None) -> TrainReport:
    """Train a student on soft labels and write it to ``checkpoint``.

    Validation texts are those of the split by hash that any path could label, whatever their agreement: the student will meet the
    contested texts too. With one seed, one number of threads and one machine without an accelerator, the weights come out the same.

    Args:
        task: the task that the soft labels were made for.
        soft_labels: a .parquet or .jsonl file.
        checkpoint: the folder to write; one that is already there is replaced when the new one is whole.
        progress: told ("train", steps done, steps planned).
    Raises:
        FormatError: if the file or the backbone is malformed.
        UserError: if the labels belong to another task, too few texts are left, the loss stops being a number, or the disk refuses.
    """
    start = time.perf_counter()
    objective = find_objective(config.loss)
    backbone = find_backbone(config.backbone)
    training, validation = _sides(soft_labels, _read(soft_labels, task), config.validation_share)
    selection = agreement.by_agreement(training, config.min_agreement)
    agreement.check_enough(soft_labels, training, selection, config.min_agreement)
    held = Held(selection.kept, validation)
    with _threads(config.threads):
        encoder, fitted = _fit(task, backbone, held, objective, config, progress)
        judgement = judge(encoder, task.label_names, validation, config)
    student = _student(task, config, backbone, held, judgement, soft_labels)
    student = msgspec.structs.replace(student, validation_losses=fitted.validation_losses, kept_epoch=fitted.kept_epoch)
    save_checkpoint(checkpoint, encoder, student, task, held)
    warnings = tuple(agreement.label_warnings(held.training, task.label_names))
    return TrainReport(checkpoint, student, selection, fitted, judgement, warnings, time.perf_counter() - start)


def _read(path: Path, task: Task) -> list[SoftLabel]:
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


def _sides(path: Path, rows: list[SoftLabel], share: float) -> tuple[list[SoftLabel], list[SoftLabel]]:
    """(training, validation) rows; the latter are those that any path could label. Raises UserError when a side is empty."""
    training, validation = split(rows, share)
    validation = [row for row in validation if agreement.was_read(row)]
    if not training or not validation:
        empty = "validation" if training else "training"
        raise UserError(
            f"{path}: the {empty} side of the split is empty ({len(rows)} texts, validation share {share:g}); label more texts"
        )
    return training, validation


def _fit(
    task: Task, backbone: ModelFolder, held: Held, objective: Objective, config: TrainConfig, progress: Progress | None
) -> tuple[Encoder, Fit]:
    """The trained student. The seed is set first, so that the head is drawn alike whatever ran before."""
    set_seed(config.seed)
    guide = open_guide(Path(config.from_student), task) if config.from_student else None
    pool = _pool(config, held)
    encoder = new_student(task, backbone, config, guide, [*held.training, *pool])
    if config.pretrain:
        pretrain(encoder, [*held.training, *pool], config, progress)
    taught = held.training if guide is None else guided(guide, [*held.training, *pool])
    training, validation = (_examples(encoder, task.label_names, rows, objective, config) for rows in (taught, held.validation))
    return encoder, fit(encoder, training, validation, config, progress)


def _pool(config: TrainConfig, held: Held) -> list[SoftLabel]:
    """The texts without labels, less those that are held out."""
    if not config.pool:
        return []
    known = {(row.text, row.target) for row in [*held.training, *held.validation]}
    rows = unlabelled(Path(config.pool), held.validation[0])
    return [row for row in rows if (row.text, row.target) not in known and not is_validation(row.text, config.validation_share)]


def _examples(encoder: Encoder, labels: list[str], rows: list[SoftLabel], objective: Objective, config: TrainConfig) -> Examples:
    """The rows as the loop takes them."""
    features = encoder.encode([(row.text, row.target) for row in rows])
    targets = [smoothed(objective.target(row, labels), config.label_smoothing) for row in rows]
    weights = [certainty(row, len(labels)) if config.weighting == "certainty" else 1.0 for row in rows]
    if not any(weights):
        raise UserError(
            f"all {len(rows)} soft labels are even shares, so that none would count; use weighting even, or label again"
        )
    return Examples(features, targets, weights)


def _student(
    task: Task, config: TrainConfig, backbone: ModelFolder, held: Held, judgement: Judgement, soft_labels: Path
) -> Student:
    """The record that goes into `student.json`."""
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
    )


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Let torch use ``n`` CPU threads for a while; None leaves it alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
