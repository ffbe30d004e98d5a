"""A student in memory: a `transformers` sequence classifier with the task's labels, and its tokenizer. Axes: N texts, C classes."""

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
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from potstill.contract.errors import FormatError
from potstill.contract.system.progress import tell_progress
from potstill.networks.register import as_student, family_of, register
from potstill.trainer.students import tokenizer as tokens
from potstill.trainer.students.tokenizer import EncodedText, first_line

BATCH_SIZE = 64  # texts, in inference


@dataclass(frozen=True)
class Encoder:
    """A classifier of any family, and the tokenizer that feeds it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    def encode(self, texts: Sequence[tuple[str, str | None]]) -> list[EncodedText]:
        """Encode each (text, target); a target of None encodes the text alone."""
        token_types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return tokens.encode(self.tokenizer, texts, token_types=token_types)

    @property
    def family(self) -> str:
        """The model's family: encoder, static or charformer."""
        return family_of(self.model.config.model_type)

    @property
    def pad_id(self) -> int:
        """The padding id; padding is masked, so any id serves where the tokenizer has none."""
        return self.tokenizer.pad_token_id or 0

    def logits(self, features: Sequence[EncodedText], stage: str = "") -> NDArray[np.float32]:
        """float32 [N, C] in the order of the features; texts of similar length share a batch.

        Args:
            features: [N].
            stage: what whoever watches is told that this is; empty: nothing, as while a student trains.
        """
        self.model.eval()
        order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
        answers = np.empty((len(features), self.model.config.num_labels), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH_SIZE):
                chosen = order[start : start + BATCH_SIZE]
                batch = tokens.pad([features[i] for i in chosen], self.pad_id)
                output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
                answers[chosen] = output.logits.float().cpu().numpy()
                if stage:
                    tell_progress(stage, start + len(chosen), len(order))
        return answers


def from_backbone(folder: Path, labels: list[str], *, max_tokens: int, pair: bool) -> Encoder:
    """Load a backbone under a new head, which is drawn from torch's generator.

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
    return Encoder(model, load_tokenizer(folder, model, max_tokens, pair=pair))


def from_checkpoint(folder: Path, labels: list[str], *, max_tokens: int, pair: bool, family: str | None = None) -> Encoder:
    """Load a trained student as it was saved.

    Args:
        folder: a checkpoint.
        labels, max_tokens, pair, family: from its `student.json`; a family of None is not checked.
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
    return Encoder(model, load_tokenizer(folder, model, max_tokens, pair=pair))


def answer_with(config: PretrainedConfig, labels: list[str]) -> None:
    """Set the configuration up for a classifier that chooses one of the labels. Args: labels in output order."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: i for i, name in enumerate(labels)}
    config.problem_type = "single_label_classification"


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of the student that the folder's model makes; raises FormatError if there is no readable one."""
    register()
    return as_student(read_transformers_config(folder, "encoder"))


def read_transformers_config(folder: Path, kind: str) -> PretrainedConfig:
    """The folder's configuration as it is.

    Args:
        kind: what the folder should hold, for the message.
    Raises:
        FormatError: if there is no configuration that `transformers` can read.
    """
    if not (folder / "config.json").is_file():
        raise FormatError(folder, "", f"holds no config.json; name a folder with a transformers {kind}")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            folder / "config.json", "", f"is not a configuration that transformers knows: {first_line(error)}"
        ) from error


def load_classifier(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, list[str]]:
    """(the classifier, the names of the weights that the folder lacks or has in another shape); raises FormatError."""
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
    """Draw everything outside the encoder anew: a backbone's own head has other labels, or another order of labels."""
    fresh = type(model)(model.config)
    for name, module in fresh.named_children():
        if name != model.base_model_prefix:
            getattr(model, name).load_state_dict(module.state_dict())


def check_encoder(folder: Path, model: PreTrainedModel, absent: list[str]) -> None:
    """Refuse a folder whose encoder would be partly random; a missing pooler counts as head. Raises FormatError."""
    encoder = [name for name in absent if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name]
    if encoder:
        problem = f"lacks {len(encoder)} weights of its encoder, {encoder[0]} for one; download the folder again"
        raise FormatError(folder, "", problem)


def load_tokenizer(folder: Path, model: PreTrainedModel, max_tokens: int, *, pair: bool) -> PreTrainedTokenizerFast:
    """The folder's tokenizer, within the encoder's position limit; raises as tokenizer.load_tokenizer does."""
    return tokens.load_tokenizer(folder, max_tokens, pair=pair, n_positions=n_positions(model))


def n_positions(model: PreTrainedModel) -> int | None:
    """Most tokens that the encoder has positions for; None if nothing limits them.

    RoBERTa, MPNet and their kin count positions from behind the id of the padding token, so their table has that many more.
    """
    stated = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(stated, int) or stated < 1:  # XLNet's positions are relative, and it states -1
        return None
    tables = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
    unused = [table.padding_idx + 1 for table in tables if isinstance(table, nn.Embedding) and table.padding_idx is not None]
    return stated - max(unused, default=0)


def last_layer(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of C outputs, if it has a bias. The caller must prove that its outputs are the logits."""
    n_classes = model.config.num_labels
    linear = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == n_classes]
    return linear[-1] if linear and linear[-1].bias is not None else None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings, such as the advice to train a head that is about to be trained."""
    before, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        if bars:
            transformers.logging.enable_progress_bar()
