"""Text embeddings: the mean of a backbone's token states, scaled to length 1. Needs torch, so it is imported only where it is used.

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
from potstill.contract.system.progress import tell_progress
from potstill.contract.texts import Text

MAX_TOKENS = 256  # as sentence encoders are trained; the rest of a text is cut off
BATCH_TOKENS = 8192  # tokens per batch, including padding

ModelInputs = dict[str, list[int]]  # input_ids, attention_mask and, where the encoder takes them, token_type_ids; each [T]


def embeddings(texts: Sequence[Text], folder: Path) -> NDArray[np.float32]:
    """Embed texts; a text's target is encoded as the second part of a pair.

    Embeddings are bit-identical on the same machine: nothing is random, and the batches follow from the texts' lengths.

    Args:
        folder: with `config.json`, weights and tokenizer of an encoder.
    Returns:
        float32 [N, H], rows of length 1.
    Raises:
        FormatError: if transformers cannot read the folder.
    """
    tell_progress("load the encoder")
    tokenizer, model = _encoder(folder)
    different = list(dict.fromkeys((text.text, text.target) for text in texts))  # equal texts are encoded once
    all_inputs = _tokenized(tokenizer, different)
    order = sorted(range(len(all_inputs)), key=lambda i: len(all_inputs[i]["input_ids"]))
    vectors = np.empty((len(different), model.config.hidden_size), dtype=np.float32)
    n_done = 0
    with torch.inference_mode():
        for rows in _batches(order, [len(inputs["input_ids"]) for inputs in all_inputs]):
            batch = _padded([all_inputs[i] for i in rows], tokenizer.pad_token_id or 0)
            states = model(**batch).last_hidden_state  # [B, T, H]
            shown = batch["attention_mask"][:, :, None].to(states.dtype)  # [B, T, 1]
            means = (states * shown).sum(dim=1) / shown.sum(dim=1)
            vectors[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
            n_done += len(rows)
            tell_progress("embed texts", n_done, len(different))
    index = {pair: i for i, pair in enumerate(different)}
    return vectors[[index[text.text, text.target] for text in texts]]


def _encoder(folder: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load tokenizer and model; raises FormatError if they cannot be read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # for a malformed file, tokenizers raises a plain Exception
        if not (type(error) is Exception or isinstance(error, OSError | ValueError | KeyError | ImportError | SafetensorError)):
            raise
        found = str(error).strip().split("\n")[0].rstrip(".")
        raise FormatError(folder, "", f"holds no encoder that transformers can read ({found}); name another backbone") from error
    return tokenizer, model.float().eval()


def _tokenized(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str | None]]) -> list[ModelInputs]:
    """Tokenize each text, with its target if it has one; truncated, not padded."""
    most = min(MAX_TOKENS, tokenizer.model_max_length)
    found = []
    for text, target in pairs:
        encoded = tokenizer(text, target, truncation="longest_first", max_length=most, padding=False)
        found.append({name: encoded[name] for name in encoded})
    return found


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group rows into batches of at most BATCH_TOKENS with padding. Args: order by rising length; lengths in tokens, by row."""
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _padded(all_inputs: Sequence[ModelInputs], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad to the longest text: int64 [B, T] by input name; padding is masked."""
    longest = max(len(inputs["input_ids"]) for inputs in all_inputs)
    return {
        name: torch.tensor(
            [inputs[name] + [pad_id if name == "input_ids" else 0] * (longest - len(inputs[name])) for inputs in all_inputs]
        )
        for name in all_inputs[0]
    }
