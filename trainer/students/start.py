"""The student before its training: a backbone under a new head, a new static or charformer student, or with `init` any checkpoint.

A new family is a recipe, a network, and a line in :func:`new_student`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from potstill.contract.checkpoint import STUDENT_FILE, read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.questions.questionnaire import AnyTask
from potstill.models.catalog import ModelFolder, find_backbone
from potstill.models.encoder import find_weights
from potstill.networks.charformer import CharformerConfig, CharformerForSequenceClassification
from potstill.networks.register import family_of
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import encoder, static, tokenizer
from potstill.trainer.students.encoder import Encoder, last_layer

SAME_LOGITS = 1e-5  # the largest difference that the order of additions explains
MIN_BYTES = 16
MAX_BYTES = 4096  # attention over a quarter as many positions still fits a small machine


@dataclass(frozen=True)
class InitialStudent:
    """A student before its training."""

    student: Encoder
    has_trained_head: bool = False  # whether its head already answers the task's labels
    notes: tuple[str, ...] = ()  # lines for the report


# --- where the weights come from


def find_start(config: TrainConfig) -> ModelFolder:
    """Find the folder whose weights training starts from: that of ``init``, else the backbone's.

    Raises:
        UserError: if there is no such backbone on this machine.
        FormatError: if the folder lacks a file.
    """
    if not config.init:
        return find_backbone(config.backbone)
    folder = Path(config.init)
    if not folder.is_dir():
        raise FormatError(folder, "", "is not a folder; --init takes a student's checkpoint, or a folder of transformers")
    return ModelFolder(config.init, folder, find_weights(folder).sha256())


def backbone_of(start: ModelFolder) -> ModelFolder:
    """The backbone that the folder's weights come from: for a student the one in its `student.json`, else the folder itself."""
    if not (start.path / STUDENT_FILE).is_file():
        return start
    student = read_student(start.path)
    return ModelFolder(student.backbone, Path(student.backbone), student.backbone_digest)


def file_digests(config: TrainConfig) -> dict[str, str]:
    """SHA-256 of the files that a run depends on: initial weights, weights of the answering student, pool, gold texts.

    Raises:
        UserError, FormatError: if one of them is missing.
    """
    found = {"weights that it starts from": find_start(config).sha256}
    if config.from_student:
        read_student(Path(config.from_student))  # fails early if this is not a checkpoint
        found["answering student's weights"] = find_weights(Path(config.from_student)).sha256()
    if config.pool:
        if not Path(config.pool).exists():
            raise FormatError(config.pool, "", "no such file or folder; check the path of the pool")
        found["pool"] = digest.of_path(Path(config.pool))
    if config.use_gold:
        if not Path(config.use_gold).exists():
            raise FormatError(config.use_gold, "", "no such file or folder; check the path of the gold texts")
        found["gold texts"] = digest.of_path(Path(config.use_gold))
    return found


# --- a new student


def new_student(
    task: AnyTask, start: ModelFolder, config: TrainConfig, teacher: Encoder | None, texts: Sequence[tuple[str, str | None]]
) -> InitialStudent:
    """Build a student of the configured family, ready to be trained.

    Args:
        start: from :func:`find_start`. An encoder starts from it, and so does a static student without a teacher; a charformer
            starts from random weights.
        teacher: the student whose answers are trained on, if there is one; a static student takes its token vectors from it.
        texts: (text, target) of the task.
    Raises:
        FormatError: if the folder is malformed.
        UserError: if ``max_tokens`` does not suit it, or ``init`` is of another family.
    """
    labels, pair = task.label_names, task.input.target
    if config.init:
        return from_init(start.path, labels, config, pair=pair)
    if config.family == "charformer":
        return InitialStudent(new_charformer(labels, max_bytes=config.max_ids, pair=pair))
    if config.family == "static" and teacher is not None and teacher.family == "encoder":  # others have no vectors in context
        source = teacher
    else:
        source = encoder.from_backbone(start.path, labels, max_tokens=config.max_ids, pair=pair)
    if config.family == "static":
        return InitialStudent(static.from_encoder(source, texts, labels, pair=pair))
    return InitialStudent(source)


def new_charformer(labels: list[str], *, max_bytes: int, pair: bool) -> Encoder:
    """A charformer with random weights from torch's generator.

    Args:
        labels: in output order.
        max_bytes: longer texts are truncated; marks count.
        pair: whether text and target are read as a pair; their token types tell them apart in either case.
    Raises:
        UserError: if ``max_bytes`` is out of its range.
    """
    if not MIN_BYTES <= max_bytes <= MAX_BYTES:
        per = find_recipe("charformer").ids_per_token
        allowed = f"{MIN_BYTES // per} to {MAX_BYTES // per}"
        raise UserError(f"max_tokens is {max_bytes // per}; a charformer, which reads {per} bytes for each, allows {allowed}")
    own = tokenizer.truncate_at(tokenizer.byte_tokenizer(), max_bytes)
    config = CharformerConfig(vocab_size=len(own), max_position_embeddings=max_bytes, pair=pair, pad_token_id=own.pad_token_id)
    encoder.answer_with(config, labels)
    return Encoder(CharformerForSequenceClassification(config), own)


# --- a student that goes on from another


def from_init(folder: Path, labels: list[str], config: TrainConfig, *, pair: bool) -> InitialStudent:
    """Load the folder's student or classifier. Its head is kept if it answers the same labels, whatever their order.

    Otherwise everything outside the encoder is drawn anew from torch's generator.

    Args:
        folder: a student of the configured family; for an encoder, any that `AutoModelForSequenceClassification` knows.
        labels: the task's, in output order.
        pair: whether text and target are read as a pair.
    Raises:
        FormatError: if the folder holds no such model, or not all of its encoder.
        UserError: if it is of another family, or ``max_tokens`` does not suit it.
    """
    found = encoder.read_config(folder)
    _check_family(folder, found, config)
    order, why = _order(found, labels)
    encoder.answer_with(found, labels)
    was_pair = getattr(found, "pair", pair)
    if hasattr(found, "pair"):
        found.pair = pair
    model, absent = encoder.load_classifier(folder, found)
    encoder.check_encoder(folder, model, absent)
    student = Encoder(model, encoder.load_tokenizer(folder, model, config.max_ids, pair=pair))
    if why is None and any(not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name for name in absent):
        why = "it has none" if was_pair == pair else f"it was trained on texts {'with' if was_pair else 'without'} a target"
    if why is None and order != list(range(len(labels))) and not _reordered(student, order, labels):
        why = "its labels are in another order, and its last layer cannot be reordered"
    if why is not None:
        encoder.draw_head(model)
        return InitialStudent(student, notes=(f"started from {folder} under a new head, because {why}",))
    moved = "" if order == list(range(len(labels))) else ", with its labels put into the task's order"
    return InitialStudent(student, has_trained_head=True, notes=(f"started from {folder} and its head{moved}",))


def _check_family(folder: Path, found: PretrainedConfig, config: TrainConfig) -> None:
    """Refuse a model of another family, or one that reads fewer bytes than configured; raises UserError."""
    family = family_of(found.model_type)
    if family != config.family:
        raise UserError(
            f"{folder}: holds a student of family {family}, but one of family {config.family} is to be trained; "
            f"add --family {family}, or name another folder"
        )
    per = find_recipe(family).ids_per_token
    if per > 1 and config.max_ids > found.max_position_embeddings:
        most = found.max_position_embeddings // per
        raise UserError(f"max_tokens is {config.max_tokens}; {folder}, which reads {per} bytes for each, allows at most {most}")


def _order(found: PretrainedConfig, labels: list[str]) -> tuple[list[int], str | None]:
    """(the output of each label, why the head cannot be kept). Case is ignored unless labels differ in case only."""
    if not any("SequenceClassification" in name for name in found.architectures or []):
        return [], "it has none"
    names = [str(found.id2label.get(i)) for i in range(found.num_labels)]
    for same in (str, str.casefold):
        own, wanted = [same(name) for name in names], [same(name) for name in labels]
        if len(set(wanted)) == len(labels) and sorted(own) == sorted(wanted):
            if found.problem_type == "multi_label_classification":
                return [], "it chooses any number of labels"
            return [own.index(name) for name in wanted], None
    return [], f"its labels are {', '.join(names)}"


def _reordered(student: Encoder, order: Sequence[int], labels: list[str]) -> bool:
    """Put the outputs of the last layer into this order; False, with nothing changed, if they are not the logits."""
    layer = last_layer(student.model)
    if layer is None:
        return False
    features = student.encode([(name, name if getattr(student.model.config, "pair", False) else None) for name in labels])
    before, kept = student.logits(features), {name: value.clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(value[list(order)].clone())
    if abs(student.logits(features) - before[:, list(order)]).max() <= SAME_LOGITS * max(1.0, abs(before).max()):
        return True
    layer.load_state_dict(kept)
    return False
