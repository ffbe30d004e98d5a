"""Texts as points: the mean over a backbone's token states, of length 1. The one file of the labeler that needs torch.

Axes: N texts, B texts in a batch, T tokens, H width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from potstill.contract.errors import FormatError
from potstill.contract.texts import Text

MAX_TOKENS = 256  # what sentence encoders are trained on; the rest of a text is cut off
BATCH_TOKENS = 8192  # tokens of a batch, padding included

ModelInputs = dict[str, list[int]]  # input_ids, attention_mask and, where the encoder takes them, token_type_ids; each [T]


def embeddings(texts: Sequence[Text], folder: Path) -> NDArray[np.float32]:
    """float32 [N, H], each row of length 1; a text's target is read as the second of a pair.

    The same texts give the same bits again on the same machine: nothing is drawn, and which texts share a batch follows from
    their lengths.

    Args:
        folder: holds `config.json`, weights and tokenizer of an encoder.
    Raises:
        FormatError: if transformers cannot read the folder.
    """
    tokenizer, model = _encoder(folder)
    different = list(dict.fromkeys((text.text, text.target) for text in texts))  # equal texts are read once
    features = _features(tokenizer, different)
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    points = np.empty((len(different), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in _batches(order, [len(feature["input_ids"]) for feature in features]):
            batch = _padded([features[i] for i in rows], tokenizer.pad_token_id or 0)
            states = model(**batch).last_hidden_state  # [B, T, H]
            shown = batch["attention_mask"][:, :, None].to(states.dtype)  # [B, T, 1]
            means = (states * shown).sum(dim=1) / shown.sum(dim=1)
            points[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
    place = {pair: i for i, pair in enumerate(different)}
    return points[[place[text.text, text.target] for text in texts]]


def _encoder(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model; raises FormatError if they cannot be read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # for a malformed file, tokenizers raises nothing more exact
        if not (type(error) is Exception or isinstance(error, OSError | ValueError | KeyError | ImportError | SafetensorError)):
            raise
        found = str(error).strip().split("\n")[0].rstrip(".")
        raise FormatError(folder, "", f"holds no encoder that transformers can read ({found}); name another backbone") from error
    return tokenizer, model.float().eval()


def _features(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str | None]]) -> list[ModelInputs]:
    """Token ids of each text, with its target where it has one; truncated, unpadded."""
    most = min(MAX_TOKENS, tokenizer.model_max_length)
    found = []
    for text, target in pairs:
        encoded = tokenizer(text, target, truncation="longest_first", max_length=most, padding=False)
        found.append({name: encoded[name] for name in encoded})
    return found


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """The rows in batches of at most BATCH_TOKENS, padding included. Args: order by rising length; lengths in tokens, by row."""
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _padded(features: Sequence[ModelInputs], pad_id: int) -> dict[str, torch.Tensor]:
    """int64 [B, T] by input name, with T that of the longest feature; what is added is masked."""
    longest = max(len(feature["input_ids"]) for feature in features)
    return {
        name: torch.tensor(
            [feature[name] + [pad_id if name == "input_ids" else 0] * (longest - len(feature[name])) for feature in features]
        )
        for name in features[0]
    }
