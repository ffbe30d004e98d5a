"""Turn texts into token ids with the very tokenizer that is saved: nothing about a text is decided in Python.

Axes: B texts in a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Encoding, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from potstill.contract.errors import FormatError, UserError

EncodedText = dict[str, list[int]]  # input_ids, attention_mask and, where the model takes them, token_type_ids; each [T]
TOKENIZER_FILES = ("tokenizer*.json", "vocab*", "*.model", "*.tiktoken", "*.bpe")  # one of them at least is in a tokenizer's folder
MIN_TEXT_TOKENS = 4  # below this, truncation leaves too little of a text to classify


def load_tokenizer(folder: Path, max_tokens: int, *, pair: bool, n_positions: int | None) -> PreTrainedTokenizerFast:
    """Load the folder's fast tokenizer, set to truncate at ``max_tokens`` and to pad nothing.

    Of text and target the longer one is truncated first, so a long text cannot push its target out.

    Args:
        folder: holds the files of a `transformers` tokenizer.
        max_tokens: of text, target and special tokens together.
        pair: whether text and target are read as a pair.
        n_positions: position embeddings of the encoder; None: it sets no limit.
    Raises:
        FormatError: if the folder has no tokenizer that `tokenizers` can run.
        UserError: if ``max_tokens`` is too small, or larger than tokenizer or encoder allow.
    """
    tokenizer = open_tokenizer(folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise FormatError(folder, "", "has no fast tokenizer; add a tokenizer.json, students are served with it")
    least = tokenizer.num_special_tokens_to_add(pair=pair) + MIN_TEXT_TOKENS
    most = min(tokenizer.model_max_length, n_positions or tokenizer.model_max_length)
    if not least <= max_tokens <= most:
        raise UserError(f"max_tokens is {max_tokens}; {folder.name} allows {least} to {most}")
    return truncate_at(tokenizer, max_tokens)


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Open the folder's tokenizer, a fast one if it has that; raises FormatError if there is no readable one."""
    if not any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):  # transformers 5 makes an empty one of none
        raise FormatError(folder, "", f"holds no readable tokenizer (none of {', '.join(TOKENIZER_FILES)}); add its tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as error:  # for a malformed file, tokenizers raises nothing more exact
        if not (type(error) is Exception or isinstance(error, OSError | ValueError | TypeError | ImportError)):
            raise
        raise FormatError(folder, "", f"holds no readable tokenizer ({first_line(error)}); add its tokenizer.json") from error


def truncate_at(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> PreTrainedTokenizerFast:
    """Set the tokenizer to truncate at ``max_tokens`` and to pad nothing; returns it."""
    tokenizer.backend_tokenizer.no_padding()  # some folders pad every text to a fixed length
    tokenizer.backend_tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    tokenizer.model_max_length = max_tokens
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[tuple[str, str | None]], *, token_types: bool) -> list[EncodedText]:
    """Encode each (text, target), truncated and unpadded.

    Args:
        tokenizer: from :func:`load_tokenizer`. Never call the wrapper itself: a call rewrites truncation and padding.
        texts: a target of None encodes the text alone.
        token_types: whether the model takes token_type_ids.
    """
    inputs = [text if target is None else (text, target) for text, target in texts]
    encodings: list[Encoding] = tokenizer.backend_tokenizer.encode_batch(inputs)
    features = [{"input_ids": e.ids, "attention_mask": e.attention_mask} for e in encodings]
    if token_types:
        for feature, encoding in zip(features, encodings, strict=True):
            feature["token_type_ids"] = encoding.type_ids
    return features


def pad(features: Sequence[EncodedText], pad_id: int) -> dict[str, Tensor]:
    """int64 [B, T] by input name, padded to the longest text; padding is masked. Args: features, at least one."""
    longest = max(len(feature["input_ids"]) for feature in features)
    tensors = {}
    for name in features[0]:
        fill = pad_id if name == "input_ids" else 0
        rows = [feature[name] + [fill] * (longest - len(feature[name])) for feature in features]
        tensors[name] = torch.tensor(rows, dtype=torch.int64)
    return tensors


BYTE_MARKS = ("[PAD]", "[SEP]", "[MASK]")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the bytes of a text's UTF-8; a mark ends the text and its target.

    It is a BPE without merges over the 256 stand-ins for bytes, so any runtime that reads a `tokenizer.json` can run it.
    """
    alphabet = [*BYTE_MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in BYTE_MARKS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", BYTE_MARKS.index("[SEP]"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", sep_token="[SEP]", mask_token="[MASK]")


def first_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop."""
    return str(error).strip().split("\n")[0].rstrip(".")
