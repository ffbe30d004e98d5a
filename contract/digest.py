"""SHA-256 digests, in lower-case hexadecimal, of files and of values."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec


def of_bytes(data: bytes) -> str:
    """SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces, so that a large GGUF costs no memory; raises OSError if unreadable."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_value(value: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys: equal content gives an equal digest, whatever its layout on disk."""
    return of_bytes(msgspec.json.encode(value, order="sorted"))
