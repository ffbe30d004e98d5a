"""Prune a checkpoint's vocabulary: drop the pieces, and their embedding rows, that no text of a pool uses.

The embedding table is most of a small encoder. Text with dropped pieces is spelled with shorter ones (`vocabulary.py`), and the
gate measures what that costs.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode
from potstill.contract.texts import read_texts
from potstill.export.tokenizer.files import CONFIG_FILE, TOKENIZER_CONFIG_FILE
from potstill.export.tokenizer.vocabulary import PrunedTokenizer, prune_tokenizer

WEIGHTS_FILE = "model.safetensors"
MIN_FREED = 0.02  # share of the pieces; dropping fewer is not worth a new vocabulary
# Model types whose positions do not depend on the id of the padding token.
PADDING_MAY_MOVE = frozenset({"bert", "distilbert", "electra", "potstill-static", "potstill-t5"})
BYTE_LEVEL = "potstill-charformer"


@dataclass(frozen=True)
class KeptPieces:
    """The pieces that a pruned vocabulary keeps."""

    n_before: int
    ids: list[int]  # old ids; the index is the new id


def prune_checkpoint(checkpoint: Path, pool: Path, folder: Path, *, target: bool) -> KeptPieces:
    """Write the checkpoint, with only the pieces that a pool's texts use, into an empty folder.

    Args:
        checkpoint: the trainer's folder; not changed.
        pool: a file of texts like those to come.
        folder: where to write.
        target: true if the texts have targets; the pieces of targets are kept, too.
    Raises:
        FormatError: if a file is missing or malformed, or a tokenizer of this kind cannot be pruned.
        UserError: if there is nothing to gain.
    """
    path = checkpoint / TOKENIZER_FILE
    layout = decode.json(path, decode.read_bytes(path), dict[str, Any])
    config = decode.json(checkpoint / CONFIG_FILE, decode.read_bytes(checkpoint / CONFIG_FILE), dict[str, Any])
    if config.get("model_type") == BYTE_LEVEL:
        raise UserError(f"{checkpoint}: reads bytes and has no vocabulary to prune; leave out --prune-vocab")
    small = prune_tokenizer(path, layout, _used_ids(layout, pool, target=target))
    tensors = load_file(checkpoint / WEIGHTS_FILE)
    n_pieces = int(config.get("vocab_size", 0))
    if len(small.kept) > (1 - MIN_FREED) * n_pieces:
        raise UserError(
            f"{pool}: its texts use {len(small.kept)} of {n_pieces} pieces, so pruning gains nothing; leave out --prune-vocab"
        )
    new = {old: i for i, old in enumerate(small.kept)}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and len(tensor) == n_pieces:
            tensors[name] = np.ascontiguousarray(tensor[small.kept])
    for file in checkpoint.iterdir():
        if file.is_file() and file.name not in (WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE, TOKENIZER_CONFIG_FILE):
            shutil.copyfile(file, folder / file.name)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / TOKENIZER_FILE).write_text(json.dumps(small.layout, ensure_ascii=False), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(json.dumps(_config(checkpoint, config, small, new)), encoding="utf-8")
    place = checkpoint / TOKENIZER_CONFIG_FILE
    options = decode.json(place, decode.read_bytes(place), dict[str, Any])
    if "added_tokens_decoder" in options:
        options["added_tokens_decoder"] = {str(new[int(i)]): token for i, token in options["added_tokens_decoder"].items()}
    (folder / TOKENIZER_CONFIG_FILE).write_text(json.dumps(options), encoding="utf-8")
    return KeptPieces(n_pieces, small.kept)


def _used_ids(layout: dict[str, Any], pool: Path, *, target: bool) -> set[int]:
    """Ids of the pieces that the texts and their targets use."""
    tokenizer = Tokenizer.from_str(json.dumps(layout))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = read_texts(pool, target=target).texts
    words = [text.text for text in texts] + [text.target for text in texts if text.target]
    return {i for encoding in tokenizer.encode_batch(words) for i in encoding.ids}


def _config(checkpoint: Path, config: dict[str, Any], small: PrunedTokenizer, new: dict[int, int]) -> dict[str, Any]:
    """Put the new ids into the configuration; raises FormatError if a moved padding id would shift the network's positions."""
    changed: dict[str, Any] = {"vocab_size": len(small.kept)}
    for name, value in config.items():
        if name.endswith("_token_id") and isinstance(value, int):
            changed[name] = new.get(value, 0)
    if changed.get("pad_token_id") != config.get("pad_token_id") and config.get("model_type") not in PADDING_MAY_MOVE:
        problem = (
            f"is {config['pad_token_id']} and would become {changed['pad_token_id']}, which moves the positions of this network"
        )
        raise FormatError(checkpoint / CONFIG_FILE, "pad_token_id", f"{problem}; leave out --prune-vocab")
    return {**config, **changed}
