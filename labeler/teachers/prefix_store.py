"""Decoded prefixes on disk, so that the same prompt is not decoded again at the next start; a cache that may be deleted.

One file a prefix: the SHA-256 of what follows, then llama.cpp's state of the sequence. Its name is the digest of everything that
decides those bytes: the weights, the tokens, the build and the shape of the context.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.files import atomic

MAX_BYTES = 2_000_000_000  # of all files together; the least recently used go first
_N_DIGEST = hashlib.sha256().digest_size


def load(folder: Path, key: str) -> bytes | None:
    """The state kept under the key; None if there is none, or it is damaged."""
    path = folder / f"{key}.kv"
    try:
        data = path.read_bytes()
        os.utime(path)  # used now
    except OSError:
        return None
    state = data[_N_DIGEST:]
    return state if hashlib.sha256(state).digest() == data[:_N_DIGEST] else None


def save(folder: Path, key: str, state: bytes) -> None:
    """Keep a state under the key, whole or not at all. A disk that refuses is no error: nothing but time is lost."""
    data = hashlib.sha256(state).digest() + state
    if len(data) > MAX_BYTES:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder.glob("*.kv"), len(data))
        atomic.write_file(folder / f"{key}.kv", data)
    except (OSError, UserError):
        pass


def _make_room(files: Iterable[Path], n_bytes: int) -> None:
    """Delete the least recently used files until so many bytes more fit."""
    found = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in files), reverse=True)
    total = n_bytes
    for _, size, path in found:
        total += size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
