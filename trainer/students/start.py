"""What a student starts as: a backbone under a new head, or with `--init` any checkpoint, with its head where that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from potstill.contract.checkpoint import STUDENT_FILE, read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.models.catalog import ModelFolder, encoder_weights, find_backbone
from potstill.networks.register import family_of
from potstill.trainer.calibration.vector_scaling import last_layer
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students import encoder
from potstill.trainer.students.encoder import Encoder

SAME_LOGITS = 1e-5  # the largest difference that the order of additions explains


@dataclass(frozen=True)
class Start:
    """A student before its training."""

    student: Encoder
    has_trained_head: bool = False  # whether its head is one that already answers the task's labels
    note: str = ""  # what a person should know of it


def find_start(config: TrainConfig) -> ModelFolder:
    """The folder whose weights training starts from: that of ``init``, else the backbone's.

    Raises:
        UserError: if there is no such backbone on this machine.
        FormatError: if the folder lacks a file.
    """
    if not config.init:
        return find_backbone(config.backbone)
    folder = Path(config.init)
    if not folder.is_dir():
        raise FormatError(folder, "", "is not a folder; --init takes a student's checkpoint, or a folder of transformers")
    return ModelFolder(config.init, folder, digest.of_file(encoder_weights(folder)))


def backbone_of(start: ModelFolder) -> ModelFolder:
    """The backbone that the folder's weights come from: of a student the one in its `student.json`, else the folder itself."""
    if not (start.path / STUDENT_FILE).is_file():
        return start
    student = read_student(start.path)
    return ModelFolder(student.backbone, Path(student.backbone), student.backbone_digest)


def from_init(folder: Path, labels: list[str], config: TrainConfig, *, pair: bool) -> Start:
    """The folder's student or classifier as it was saved; its head is kept if it answers the same labels, whatever their order.

    Otherwise everything outside the encoder is drawn anew from torch's generator.

    Args:
        folder: of a student of the configured family; for an encoder, of any that `AutoModelForSequenceClassification` knows.
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
    student = Encoder(model, encoder.load_tokenizer(folder, found, config.max_ids, pair=pair))
    if why is None and any(not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name for name in absent):
        why = "it has none" if was_pair == pair else f"it was trained on texts {'with' if was_pair else 'without'} a target"
    if why is None and order != list(range(len(labels))) and not _reordered(student, order, labels):
        why = "its labels are in another order, and its last layer is none that could be put into the task's"
    if why is not None:
        encoder.draw_head(model)
        return Start(student, note=f"began as {folder} under a new head, because {why}")
    moved = "" if order == list(range(len(labels))) else ", its labels put into the task's order"
    return Start(student, has_trained_head=True, note=f"began as {folder}, head and all{moved}")


def _check_family(folder: Path, found: PretrainedConfig, config: TrainConfig) -> None:
    """Refuse a model of another family, or one that reads fewer bytes than are wanted."""
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
    """(the output of each label, why the head cannot be kept); upper and lower case tell no labels apart unless they must."""
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
    """Put the outputs of the last layer into this order; False, and nothing is changed, if they are not the logits."""
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


def file_digests(config: TrainConfig) -> dict[str, str]:
    """SHA-256 by what it is of: the weights that training starts from, those of the student that answers, the pool.

    Raises:
        UserError, FormatError: if one of them is not there.
    """
    found = {"weights that it starts from": find_start(config).sha256}
    if config.from_student:
        read_student(Path(config.from_student))  # what is no checkpoint is told here
        found["answering student's weights"] = digest.of_file(encoder_weights(Path(config.from_student)))
    if config.pool:
        if not Path(config.pool).exists():
            raise FormatError(config.pool, "", "no such file or folder; check the path of the pool")
        found["pool"] = digest.of_path(Path(config.pool))
    return found
