"""The bundle's tokenizer and configuration files, so that potstill and Hugging Face tools read the same tokens and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.errors import FormatError
from potstill.contract.files import decode

CONFIG_FILE, TOKENIZER_CONFIG_FILE = "config.json", "tokenizer_config.json"
# Paths and names of the machine or model that a checkpoint came from; a bundle travels without them.
ORIGIN_KEYS = frozenset({"name_or_path", "_name_or_path", "tokenizer_file", "vocab_file", "special_tokens_map_file"})


def tokenizer_json(checkpoint: Path, max_tokens: int) -> bytes:
    """The checkpoint's tokenizer with truncation at max_tokens (special tokens count) and without padding.

    Raises:
        FormatError: if the checkpoint has no tokenizer that the `tokenizers` library can read.
    """
    path = checkpoint / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_buffer(decode.read_bytes(path))
    except ValueError as error:
        raise FormatError(path, "", f"tokenizers cannot load it: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first", direction="right")
    text: str = tokenizer.to_str(pretty=False)
    return text.encode()


def config_json(checkpoint: Path, labels: list[str]) -> bytes:
    """The model's configuration with the labels in output order; raises FormatError."""
    config = _object(checkpoint / CONFIG_FILE)
    names = {
        "id2label": {str(index): name for index, name in enumerate(labels)},
        "label2id": {name: index for index, name in enumerate(labels)},
        "problem_type": "single_label_classification",
    }
    return _written({**config, **names})


def tokenizer_config_json(checkpoint: Path, max_tokens: int) -> bytes:
    """What Hugging Face tools need beside `tokenizer.json`; raises FormatError."""
    return _written({**_object(checkpoint / TOKENIZER_CONFIG_FILE), "model_max_length": max_tokens})


def pad_token_id(checkpoint: Path) -> int:
    """The id that fills a batch up; masked, so its value does not matter. Raises FormatError."""
    found = _object(checkpoint / CONFIG_FILE).get("pad_token_id")
    return found if isinstance(found, int) else 0


def _object(path: Path) -> dict[str, Any]:
    """A JSON object's content without the keys of its origin."""
    content = decode.json(path, decode.read_bytes(path), dict[str, Any])
    return {key: value for key, value in content.items() if key not in ORIGIN_KEYS}


def _written(content: dict[str, Any]) -> bytes:
    """Indented JSON with a newline; label names stay in output order."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
