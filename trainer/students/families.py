"""How a student of each family begins. A new family is a recipe, a network, and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Task
from potstill.models.catalog import ModelFolder
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.student_labels import Guide
from potstill.trainer.students import charformer, static
from potstill.trainer.students import encoder as students
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.start import Start, from_init
from potstill.trainer.training.masking import byte_reading, token_reading
from potstill.trainer.training.pretrain import Reading


def new_student(task: Task, start: ModelFolder, config: TrainConfig, guide: Guide | None, rows: Sequence[SoftLabel]) -> Start:
    """A student that is still to be trained, of the family that the configuration names.

    Args:
        start: the folder of ``init`` if the configuration names one. Else the backbone, which an encoder starts from, and a static
            student without a guide; a charformer starts from nothing.
        guide: the student that a static one takes its vectors from.
        rows: texts of the task; no label of them is looked at.
    Raises:
        FormatError: if the folder is malformed.
        UserError: if ``max_tokens`` does not suit it, or ``init`` is of another family.
    """
    labels, pair = task.label_names, task.input.target
    if config.init:
        return from_init(start.path, labels, config, pair=pair)
    if config.family == "charformer":
        return Start(charformer.fresh(labels, max_bytes=config.max_ids, pair=pair))
    if config.family == "static":
        # a guide that is itself static or a charformer has no tokens with a context
        if guide is not None and guide.encoder.family == "encoder":
            encoder = guide.encoder
        else:
            encoder = students.from_backbone(start.path, labels, max_tokens=config.max_ids, pair=pair)
        return Start(static.from_encoder(encoder, [(row.text, row.target) for row in rows], labels, pair=pair))
    return Start(students.from_backbone(start.path, labels, max_tokens=config.max_ids, pair=pair))


def reading_of(student: Encoder, start: ModelFolder, config: TrainConfig) -> Reading:
    """How the student reads texts with hidden parts; a static one does not. Args: start as above. Raises UserError."""
    return byte_reading(student, config) if config.family == "charformer" else token_reading(student, start.path, config)
