"""Students: a `transformers` sequence classifier with the task's labels, and the tokenizer that feeds it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from potstill.contract.errors import FormatError
from potstill.networks.register import as_student, family_of, register
from potstill.trainer.students import tokenizer as tokens
from potstill.trainer.students.tokenizer import Feature, first_line

BATCH_SIZE = 64  # texts, when nothing is trained


@dataclass(frozen=True)
class Encoder:
    """An encoder with a classification head. Axes: N texts, C classes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    def encode(self, texts: Sequence[tuple[str, str | None]]) -> list[Feature]:
        """One feature for each (text, target)."""
        token_types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return tokens.encode(self.tokenizer, texts, token_types=token_types)

    @property
    def family(self) -> str:
        """encoder, static or charformer."""
        return family_of(self.model.config.model_type)

    @property
    def pad_id(self) -> int:
        """The id that fills a batch up; it is masked, so any would do where the tokenizer has none."""
        return self.tokenizer.pad_token_id or 0

    def logits(self, features: Sequence[Feature]) -> NDArray[np.float32]:
        """float32 [N, C] in the order of the features; texts of like length share a batch."""
        self.model.eval()
        order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
        answers = np.empty((len(features), self.model.config.num_labels), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH_SIZE):
                chosen = order[start : start + BATCH_SIZE]
                batch = tokens.pad([features[i] for i in chosen], self.pad_id)
                output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
                answers[chosen] = output.logits.float().cpu().numpy()
        return answers


def from_backbone(folder: Path, labels: list[str], *, max_tokens: int, pair: bool) -> Encoder:
    """A student to be trained: the folder's encoder under a new head, drawn from torch's generator.

    Args:
        folder: holds `config.json`, weights and tokenizer of any encoder that `AutoModelForSequenceClassification` knows.
        labels: in output order.
        max_tokens: longer texts are truncated.
        pair: whether text and target are read as a pair.
    Raises:
        FormatError: if the folder holds no such encoder, or not all of its weights.
        UserError: if ``max_tokens`` does not suit it.
    """
    config = read_config(folder)
    answer_with(config, labels)
    model, absent = load_classifier(folder, config)
    draw_head(model)
    check_encoder(folder, model, absent)
    return Encoder(model, load_tokenizer(folder, config, max_tokens, pair=pair))


def from_checkpoint(folder: Path, labels: list[str], *, max_tokens: int, pair: bool, family: str | None = None) -> Encoder:
    """A trained student, as it was saved.

    Args:
        folder: a checkpoint.
        labels, max_tokens, pair, family: as its `student.json` has them; a family of None is not checked.
    Raises:
        FormatError: if the folder's model has other labels or is of another family, or lacks weights.
    """
    config = read_config(folder)
    found = [config.id2label.get(i) for i in range(config.num_labels)]
    if found != labels:
        problem = f"is {found}, but student.json has {labels}; train the checkpoint again"
        raise FormatError(folder / "config.json", "id2label", problem)
    if family not in (None, family_of(config.model_type)):
        problem = f"is {config.model_type!r}, but student.json says family {family!r}; train the checkpoint again"
        raise FormatError(folder / "config.json", "model_type", problem)
    model, absent = load_classifier(folder, config)
    if absent:
        raise FormatError(folder, "", f"lacks {len(absent)} weights, {absent[0]} for one; train the checkpoint again")
    return Encoder(model, load_tokenizer(folder, config, max_tokens, pair=pair))


def answer_with(config: PretrainedConfig, labels: list[str]) -> None:
    """Let a model of this configuration choose one of the labels."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = "single_label_classification"


def read_config(folder: Path) -> PretrainedConfig:
    """The folder's model configuration."""
    if not (folder / "config.json").is_file():
        raise FormatError(folder, "", "holds no config.json; name a folder with a transformers encoder")
    register()
    try:
        return as_student(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            folder / "config.json", "", f"is no configuration that transformers knows: {first_line(error)}"
        ) from error


def load_classifier(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, list[str]]:
    """The classifier, and the names of the weights that the folder does not have."""
    try:
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise FormatError(folder, "", f"cannot be loaded as a classifier: {first_line(error)}") from error
    mismatched = [name for name, *_ in info["mismatched_keys"]]
    return model, sorted([*info["missing_keys"], *mismatched])


def draw_head(model: PreTrainedModel) -> None:
    """Draw everything outside the encoder anew: a head that a backbone brings along has other labels, or another order."""
    fresh = type(model)(model.config)
    for name, module in fresh.named_children():
        if name != model.base_model_prefix:
            getattr(model, name).load_state_dict(module.state_dict())


def check_encoder(folder: Path, model: PreTrainedModel, absent: list[str]) -> None:
    """Refuse a folder whose encoder would be partly random; a missing pooler is part of the head here."""
    encoder = [name for name in absent if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name]
    if encoder:
        problem = f"lacks {len(encoder)} weights of its encoder, {encoder[0]} for one; download the folder again"
        raise FormatError(folder, "", problem)


def load_tokenizer(folder: Path, config: PretrainedConfig, max_tokens: int, *, pair: bool) -> PreTrainedTokenizerFast:
    """The folder's tokenizer, within the encoder's own limit."""
    n_positions = getattr(config, "max_position_embeddings", None)
    return tokens.load_tokenizer(folder, max_tokens, pair=pair, n_positions=n_positions)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from telling people to train a head that is about to be trained."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
