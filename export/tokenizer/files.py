"""Write the bundle's tokenizer and configuration files, which potstill and Hugging Face tools read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.errors import FormatError
from potstill.contract.files import decode

CONFIG_FILE, TOKENIZER_CONFIG_FILE = "config.json", "tokenizer_config.json"
# Keys that name the machine or model a checkpoint came from; a bundle leaves them out.
ORIGIN_KEYS = frozenset({"name_or_path", "_name_or_path", "tokenizer_file", "vocab_file", "special_tokens_map_file"})


def tokenizer_json(checkpoint: Path, max_tokens: int) -> bytes:
    """The checkpoint's tokenizer as `tokenizer.json`, truncating at max_tokens (special tokens included), without padding.

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
    """The checkpoint's `config.json` with the label names in output order; raises FormatError."""
    config = _object(checkpoint / CONFIG_FILE)
    names = {
        "id2label": {str(index): name for index, name in enumerate(labels)},
        "label2id": {name: index for index, name in enumerate(labels)},
        "problem_type": "single_label_classification",
    }
    return _written({**config, **names})


def tokenizer_config_json(checkpoint: Path, max_tokens: int) -> bytes:
    """The checkpoint's `tokenizer_config.json`, which Hugging Face tools need; raises FormatError."""
    return _written({**_object(checkpoint / TOKENIZER_CONFIG_FILE), "model_max_length": max_tokens})


def pad_token_id(checkpoint: Path) -> int:
    """The id of the padding token, 0 if the model names none; padding is masked. Raises FormatError."""
    found = _object(checkpoint / CONFIG_FILE).get("pad_token_id")
    return found if isinstance(found, int) else 0


def _object(path: Path) -> dict[str, Any]:
    """Read a JSON object, without `ORIGIN_KEYS`."""
    content = decode.json(path, decode.read_bytes(path), dict[str, Any])
    return {key: value for key, value in content.items() if key not in ORIGIN_KEYS}


def _written(content: dict[str, Any]) -> bytes:
    """Encode as indented JSON with a final newline, in the given order."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
