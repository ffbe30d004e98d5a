"""Any fine-tuned `transformers` sequence classifier as a baseline, with its own label names.

Axes: N texts, F labels of the classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from potstill.contract.errors import FormatError
from potstill.trainer.students.encoder import n_positions, quiet, read_transformers_config
from potstill.trainer.students.tokenizer import first_line, open_tokenizer

MAX_TOKENS = 512  # the usual limit of such models; less if the model or its tokenizer allows less
BATCH_SIZE = 32  # texts


@dataclass(frozen=True)
class ReadyMade:
    """A folder with a classifier, and the labels in its configuration."""

    folder: Path
    labels: list[str]  # [F], in output order


def open_ready_made(folder: Path) -> ReadyMade:
    """Open the classifier in a folder; only its configuration is read.

    Raises:
        FormatError: if it is not a `transformers` folder, or its model does not choose one of several labels.
    """
    config = read_transformers_config(folder, "classifier")
    place = folder / "config.json"
    if config.problem_type == "multi_label_classification":
        raise FormatError(
            place, "problem_type", "is multi_label_classification; only classifiers that choose one label can be compared"
        )
    if config.num_labels < 2:
        raise FormatError(place, "id2label", f"names {config.num_labels} output; a classifier has at least 2")
    labels = [config.id2label.get(i) for i in range(config.num_labels)]
    if None in labels or len(set(labels)) < len(labels):
        raise FormatError(place, "id2label", f"is {config.id2label}; it must give each of {len(labels)} outputs a different name")
    return ReadyMade(folder, [str(label) for label in labels])


def predict_ready_made(classifier: ReadyMade, texts: list[str]) -> NDArray[np.float64]:
    """float64 [N, F]: the classifier's probabilities, in the order of its own labels; rows sum to 1.

    Args:
        texts: N, truncated to the longest input that it takes.
    Raises:
        FormatError: if tokenizer or weights cannot be read, or the weights have no classification head.
    """
    folder = classifier.folder
    config = read_transformers_config(folder, "classifier")
    tokenizer = open_tokenizer(folder)
    model = _model(folder, config)
    longest = min(MAX_TOKENS, n_positions(model) or MAX_TOKENS, tokenizer.model_max_length)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of similar length share a batch
    logits = np.empty((len(texts), len(classifier.labels)))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            batch = tokenizer([texts[i] for i in chosen], truncation=True, max_length=longest, padding=True, return_tensors="pt")
            logits[chosen] = model(**batch).logits.double().numpy()
    probs: NDArray[np.float64] = softmax(logits, axis=1)
    return probs


def _model(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """The model with all of its weights; raises FormatError if some are missing."""
    try:
        with quiet():  # transformers would advise to train missing weights, which are an error here
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FormatError(folder, "", f"cannot be loaded as a classifier: {first_line(error)}") from error
    if missing := sorted(info["missing_keys"]):
        problem = f"lacks {len(missing)} weights, {missing[0]} for one; name a classifier that was fine-tuned, not a bare encoder"
        raise FormatError(folder, "", problem)
    return model.eval()
