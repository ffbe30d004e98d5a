"""SHA-256 digests of files and of values, in lower-case hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


def of_bytes(data: bytes) -> str:
    """SHA-256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces, so that a large GGUF needs no memory; raises OSError if unreadable."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes one after the other, as `cat FILES | sha256sum` says; raises OSError if one is unreadable."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: total)
    return total.hexdigest()


def of_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and digests of all files in a folder; raises OSError if unreadable."""
    if not path.is_dir():
        return of_file(path)
    return of_value({str(file.relative_to(path)): of_file(file) for file in path.rglob("*") if file.is_file()})


def of_value(value: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys: equal content has an equal digest, whatever its layout on disk."""
    return of_bytes(msgspec.json.encode(value, order="sorted"))
