"""Any fine-tuned `transformers` sequence classifier, to be scored beside a student, under its own names for its labels.

Axes: N texts, F labels of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PretrainedConfig

from potstill.contract.errors import FormatError
from potstill.trainer.students.tokenizer import first_line

MAX_TOKENS = 512  # what such models are trained with; less where the model or its tokenizer allows less
BATCH_SIZE = 32  # texts


@dataclass(frozen=True)
class ReadyMade:
    """A folder with a classifier, and the labels that its outputs have by its own word."""

    folder: Path
    labels: list[str]  # [F], in output order


def open_ready_made(folder: Path) -> ReadyMade:
    """The classifier in a folder; only its configuration is read.

    Raises:
        FormatError: if it is no `transformers` folder, or its model does not choose one of several labels.
    """
    config = _config(folder)
    place = folder / "config.json"
    if config.problem_type == "multi_label_classification":
        raise FormatError(
            place, "problem_type", "is multi_label_classification; only classifiers that choose one label can be compared"
        )
    if config.num_labels < 2:
        raise FormatError(place, "id2label", f"names {config.num_labels} output; a classifier has at least 2")
    labels = [config.id2label.get(i) for i in range(config.num_labels)]
    if None in labels or len(set(labels)) < len(labels):
        raise FormatError(place, "id2label", f"is {config.id2label}; it must give each of {len(labels)} outputs a name of its own")
    return ReadyMade(folder, [str(label) for label in labels])


def answers(classifier: ReadyMade, texts: list[str]) -> NDArray[np.float64]:
    """What it says, float64 [N, F] in the order of its own labels; rows sum to 1.

    Args: texts: N; what lies beyond its longest input is not read.
    Raises:
        FormatError: if tokenizer or weights cannot be read, or the weights have no classification head.
    """
    folder = classifier.folder
    config = _config(folder)
    tokenizer = _tokenizer(folder)
    model = _model(folder, config)
    n_positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    longest = min(MAX_TOKENS, n_positions, tokenizer.model_max_length)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length share a batch
    logits = np.empty((len(texts), len(classifier.labels)))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            batch = tokenizer([texts[i] for i in chosen], truncation=True, max_length=longest, padding=True, return_tensors="pt")
            logits[chosen] = model(**batch).logits.double().numpy()
    probs: NDArray[np.float64] = softmax(logits, axis=1)
    return probs


def _config(folder: Path) -> PretrainedConfig:
    """Its configuration."""
    if not (folder / "config.json").is_file():
        raise FormatError(folder, "", "holds no config.json; name a folder with a transformers classifier")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            folder / "config.json", "", f"is no configuration that transformers knows: {first_line(error)}"
        ) from error


def _tokenizer(folder: Path) -> transformers.PreTrainedTokenizerBase:
    """Its tokenizer, of any kind."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # for a malformed file, tokenizers raises nothing more exact
        if not (type(error) is Exception or isinstance(error, OSError | ValueError | TypeError | ImportError)):
            raise
        raise FormatError(folder, "", f"holds no readable tokenizer ({first_line(error)}); add its files") from error


def _model(folder: Path, config: PretrainedConfig) -> transformers.PreTrainedModel:
    """Its model, every weight of it read."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it would advise to train what is missing, which is an error here
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FormatError(folder, "", f"cannot be loaded as a classifier: {first_line(error)}") from error
    finally:
        transformers.logging.set_verbosity(before)
    if missing := sorted(info["missing_keys"]):
        problem = f"lacks {len(missing)} weights, {missing[0]} for one; name a classifier that was fine-tuned, not a bare encoder"
        raise FormatError(folder, "", problem)
    return model.eval()
