"""How a student of each family begins. A new family is a recipe, a network, and a line here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contract.soft_label import SoftLabel
from contract.task import Task
from models.catalog import ModelFolder
from trainer import charformer, static, students
from trainer.config import TrainConfig
from trainer.guide import Guide
from trainer.students import Encoder


def new_student(task: Task, backbone: ModelFolder, config: TrainConfig, guide: Guide | None, rows: Sequence[SoftLabel]) -> Encoder:
    """A student that is still to be trained, of the family that the configuration names.

    Args:
        backbone: what an encoder starts from, and a static student without a guide; a charformer starts from nothing.
        guide: the student that a static one takes its vectors from.
        rows: texts of the task; no label of them is looked at.
    Raises:
        FormatError: if the backbone's folder is malformed.
        UserError: if ``max_tokens`` does not suit it.
    """
    labels, pair = task.label_names, task.input.target
    if config.family == "charformer":
        return charformer.fresh(labels, max_bytes=config.max_ids, pair=pair)
    if config.family == "static":
        # a guide that is itself static or a charformer has no tokens with a context
        if guide is not None and guide.encoder.family == "encoder":
            encoder = guide.encoder
        else:
            encoder = students.from_backbone(Path(backbone.path), labels, max_tokens=config.max_ids, pair=pair)
        return static.from_encoder(encoder, [(row.text, row.target) for row in rows], labels, pair=pair)
    return students.from_backbone(backbone.path, labels, max_tokens=config.max_ids, pair=pair)
