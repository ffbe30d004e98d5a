"""How texts become token ids: by the very tokenizer that is saved, settings and all; nothing about a text is decided in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from potstill.contract.errors import FormatError, UserError

Feature = dict[str, list[int]]  # input_ids, attention_mask and, where the encoder takes them, token_type_ids; each [T]
MIN_TEXT_TOKENS = 4  # below this, truncation leaves too little of a text to classify


def load_tokenizer(folder: Path, max_tokens: int, *, pair: bool, n_positions: int | None) -> PreTrainedTokenizerFast:
    """The folder's fast tokenizer, truncating to ``max_tokens`` and padding nothing, both by its `tokenizer.json`.

    Text and target are cut from whichever is longer, so a long text cannot push its target out.

    Args:
        folder: holds the files of a `transformers` tokenizer.
        max_tokens: of text, target and special tokens together.
        pair: whether text and target are read as a pair.
        n_positions: tokens that the encoder can tell apart by place; None: it sets no limit.
    Raises:
        FormatError: if the folder has no tokenizer that `tokenizers` can run.
        UserError: if ``max_tokens`` is too small, or above what tokenizer or encoder allow.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as error:  # for a malformed file, tokenizers raises nothing more exact
        if not (type(error) is Exception or isinstance(error, OSError | ValueError | ImportError)):
            raise
        raise FormatError(folder, "", f"holds no readable tokenizer ({first_line(error)}); add its tokenizer.json") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise FormatError(folder, "", "has no fast tokenizer; add a tokenizer.json, students are served with it")
    least = tokenizer.num_special_tokens_to_add(pair=pair) + MIN_TEXT_TOKENS
    most = min(tokenizer.model_max_length, n_positions or tokenizer.model_max_length)
    if not least <= max_tokens <= most:
        raise UserError(f"max_tokens is {max_tokens}; {folder.name} allows {least} to {most}")
    return cut_at(tokenizer, max_tokens)


def cut_at(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> PreTrainedTokenizerFast:
    """The same tokenizer, truncating to ``max_tokens`` and padding nothing."""
    tokenizer.backend_tokenizer.no_padding()  # some folders pad every text to a fixed length
    tokenizer.backend_tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    tokenizer.model_max_length = max_tokens
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[tuple[str, str | None]], *, token_types: bool) -> list[Feature]:
    """One feature for each (text, target), truncated and unpadded.

    Args:
        tokenizer: from :func:`load_tokenizer`; its wrapper must never be called, because a call rewrites truncation and padding.
        texts: a target of None encodes the text alone.
        token_types: whether the encoder takes token_type_ids.
    """
    inputs = [text if target is None else (text, target) for text, target in texts]
    encodings: list[Encoding] = tokenizer.backend_tokenizer.encode_batch(inputs)
    features = [{"input_ids": e.ids, "attention_mask": e.attention_mask} for e in encodings]
    if token_types:
        for feature, encoding in zip(features, encodings, strict=True):
            feature["token_type_ids"] = encoding.type_ids
    return features


def pad(features: Sequence[Feature], pad_id: int) -> dict[str, Tensor]:
    """int64 [B, T] by input name, with T that of the longest feature; what is added is masked."""
    longest = max(len(feature["input_ids"]) for feature in features)
    tensors = {}
    for name in features[0]:
        fill = pad_id if name == "input_ids" else 0
        rows = [feature[name] + [fill] * (longest - len(feature[name])) for feature in features]
        tensors[name] = torch.tensor(rows, dtype=torch.int64)
    return tensors


def first_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop."""
    return str(error).strip().split("\n")[0].rstrip(".")
